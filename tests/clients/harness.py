"""What all client tests share: a server of their own, cookies as the site would sign them, and the report.

Python 3.11, standard library only. Each test prints `ok NAME` or `not ok NAME: why`; tests/run counts the lines.
"""
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(ROOT, "tests", ".cache")
BINARY = os.environ.get("WSSON", os.path.join(ROOT, "target", "release", "wsson"))
SECRET = "client-tests-only-" + secrets.token_hex(16)
PATIENCE_S = 30

failed = 0
# tests/run ends what takes too long: then what was started here has to end too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def ok(name):
    print(f"ok {name}", flush=True)


def not_ok(name, why):
    global failed
    failed += 1
    print(f"not ok {name}: {' '.join(str(why).split())}", flush=True)


def check(name, found, expected):
    if found == expected:
        ok(name)
    else:
        not_ok(name, f"found {found!r}, expected {expected!r}")


def finish():
    sys.exit(1 if failed else 0)


def fresh_token():
    return secrets.token_hex(16)


def cookies(token=None, time_s=None):
    """The three cookies of a login, as a dictionary: md5(secret . token . time)."""
    token = token or fresh_token()
    issued = str(time_s or int(time.time()))
    digest = hashlib.md5((SECRET + token + issued).encode()).hexdigest()
    return {"token": token, "time": issued, "digest": digest}


def cookie_header(values):
    return "; ".join(f"{name}={value}" for name, value in values.items())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """The release binary on a loopback port, with its control socket on TCP or in the file system."""

    def __init__(self, origins, control="unix", top=(), limits=(), timeouts=()):
        self.origins, self.control_kind = origins, control
        self.top, self.limits, self.timeouts = top, limits, timeouts

    def __enter__(self):
        if not os.access(BINARY, os.X_OK):
            sys.exit(f"{BINARY} is missing: cargo build --release")
        self.folder = tempfile.mkdtemp(prefix="wsson-clients-")
        # Between the look for a free port and the bind someone else may take it: then another one.
        for _ in range(5):
            if self.start():
                return self
            if "in use" not in self.log().lower():
                break
        log = self.log()
        shutil.rmtree(self.folder)
        sys.exit(f"the server did not start:\n{log}")

    def start(self):
        self.port = free_port()
        # How a backend is told the address: unix:PATH or tcp:HOST:PORT.
        if self.control_kind == "unix":
            path = os.path.join(self.folder, "control.sock")
            self.control, url = f"unix:{path}", f"unix://{path}"
        else:
            port = free_port()
            self.control, url = f"tcp:127.0.0.1:{port}", f"tcp://127.0.0.1:{port}"
        config = os.path.join(self.folder, "wsson.toml")
        lines = [
            f'servers = ["tcp://127.0.0.1:{self.port}", "unix://{self.folder}/server.sock"]',
            f'control = "{url}"',
            'pid = "wsson.pid"',
            f'secret = "{SECRET}"',
            "origins = [" + ", ".join(f'"{origin}"' for origin in self.origins) + "]",
            *self.top,
            "[limits]", *self.limits,
            "[timeouts]", *self.timeouts,
        ]
        with open(os.open(config, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
        return self.serve()

    def serve(self):
        config = os.path.join(self.folder, "wsson.toml")
        with open(os.path.join(self.folder, "stderr.log"), "a") as errors:
            self.process = subprocess.Popen([BINARY, "run", "-c", config], stderr=errors)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with self.backend() as backend:
                    backend.send(b"0p")
                    return backend.reply() == ("P", b"")
            except OSError:
                time.sleep(0.01)
        self.process.kill()
        self.process.wait()
        return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)

    def again(self):
        """The same server at the same addresses, after `stop`."""
        if not self.serve():
            sys.exit(f"the server did not start again:\n{self.log()}")

    def backend(self):
        return Backend(self.control)

    def log(self):
        with open(os.path.join(self.folder, "stderr.log"), errors="replace") as file:
            return file.read()

    def __exit__(self, *_):
        """SIGTERM must end it, with exit code 0, and soon."""
        if self.process.poll() is not None:
            not_ok("server stays up", f"it ended with {self.process.returncode}: {self.log()[-500:]}")
        else:
            self.process.send_signal(signal.SIGTERM)
            try:
                check("server ends with 0 on SIGTERM", self.process.wait(PATIENCE_S), 0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                not_ok("server ends with 0 on SIGTERM", f"still there after {PATIENCE_S} s")
        if failed:
            print("--- the server's log ---\n" + self.log()[-4000:], file=sys.stderr)
        shutil.rmtree(self.folder)


class Backend:
    """A connection to the control socket. COMMANDS.md in ten lines."""

    def __init__(self, address):
        kind, rest = address.split(":", 1)
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            target = rest
        else:
            self.socket = socket.socket()
            host, port = rest.rsplit(":", 1)
            target = (host, int(port))
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(target)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def command(self, letter, payload=b""):
        self.send(b"%d%s%s" % (len(payload), letter.encode(), payload))

    def reply(self):
        """The next reply as (letter, payload), or None at the end."""
        length = b""
        while (byte := self.file.read(1)).isdigit():
            length += byte
        if not byte:
            return None
        return byte.decode(), self.file.read(int(length))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()


def run(name, command, env, timeout_s=60):
    """Runs a test in another language. Its ok lines are passed on; it must print at least one and end with 0."""
    try:
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, timeout=timeout_s)
    except FileNotFoundError as error:
        return not_ok(name, f"{error.filename} is not installed")
    except subprocess.TimeoutExpired as error:
        print((error.stdout or b"").decode(errors="replace"), end="")
        return not_ok(name, f"no end after {timeout_s} s")
    lines = done.stdout.decode(errors="replace").splitlines()
    global failed
    failed += sum(line.startswith("not ok ") for line in lines)
    print("\n".join(lines), flush=True)
    if done.returncode != 0 or not any(line.startswith("ok ") for line in lines):
        not_ok(name, f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-600:]}")
