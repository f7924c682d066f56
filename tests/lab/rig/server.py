"""One way to start the server for all Python tests: the release binary in a folder of its own, and its figures in /proc from outside.

Never asks the server about itself where the kernel knows it as well. Linux, standard library only.
"""
import hashlib
import json
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BINARY = os.path.abspath(os.environ.get("WSSON", os.path.join(ROOT, "target", "release", "wsson")))
SECRET = "attacks-only-" + secrets.token_hex(16)
ORIGIN = "https://example.com"
PATIENCE_S = 30
MIB = 1 << 20


def eventually(is_so, patience_s=PATIENCE_S, pause_s=0.01):
    """Whether it becomes so in time."""
    end = time.monotonic() + patience_s
    while not (done := is_so()) and time.monotonic() < end:
        time.sleep(pause_s)
    return bool(done)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cookies(token=None, time_s=None):
    token = token or secrets.token_hex(16)
    issued = str(time_s or int(time.time()))
    digest = hashlib.md5((SECRET + token + issued).encode()).hexdigest()
    return f"token={token}; time={issued}; digest={digest}"


def head(token=None, time_s=None, more=""):
    """A request that is let in, unless `more` spoils it."""
    lines = [
        "GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Origin: {ORIGIN}", f"Cookie: {cookies(token, time_s)}",
    ]
    return ("\r\n".join(lines) + "\r\n" + more + "\r\n").encode()


class Backend:
    """A connection to the control socket, `unix:PATH` or `tcp:HOST:PORT`. COMMANDS.md in ten lines."""

    def __init__(self, address):
        kind, rest = address.split(":", 1)
        self.socket = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        host, _, port = rest.rpartition(":")
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(rest if kind == "unix" else (host, int(port)))
        except OSError:
            self.socket.close()
            raise
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
        return (byte.decode(), self.file.read(int(length))) if byte else None

    def ask(self, letter, payload=b""):
        self.command(letter, payload)
        return self.reply()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()


class Server:
    """Runs while the `with` block does, in a folder of its own. `table=[lines]` go into the configuration."""

    def __init__(self, top=(), descriptors=None, binary=BINARY, environment=None, origins=(ORIGIN,), tcp_control=False, **tables):
        self.top, self.descriptors, self.tables, self.origins = list(top), descriptors, tables, origins
        self.binary, self.environment, self.tcp_control = binary, environment, tcp_control

    def prepare(self):
        """All but the process."""
        self.folder = tempfile.mkdtemp(prefix="wsson-test-")
        os.chmod(self.folder, 0o755)
        self.control_path = self.at("control.sock")
        self.local, self.log_path, self.config = self.at("server.sock"), self.at("log"), self.at("wsson.toml")
        self.choose_ports()
        return self

    def at(self, name):
        return os.path.join(self.folder, name)

    def choose_ports(self):
        self.port = free_port()
        self.control = f"tcp:127.0.0.1:{free_port()}" if self.tcp_control else f"unix:{self.control_path}"
        self.write_config()

    def __enter__(self):
        if not os.access(self.binary, os.X_OK):
            raise SystemExit(f"{self.binary} is missing: cargo build --release")
        self.prepare()
        # Between the look for a free port and the bind someone else may take it: then another one.
        for _ in range(5):
            if self.start():
                return self
            if "in use" not in self.log().lower():
                break
            self.choose_ports()
        log = self.log()
        shutil.rmtree(self.folder)
        raise SystemExit(f"the server did not start: {log}")

    def urls(self):
        return [f"tcp://127.0.0.1:{self.port}", f"unix://{self.local}"]

    def write_config(self, mode=0o600):
        lines = [
            f"servers = {json.dumps(self.urls())}", f'control = "{self.control.replace(":", "://", 1)}"', f'secret = "{SECRET}"',
            f"origins = {json.dumps(list(self.origins))}", f'pid = "{self.folder}/pid"', f'log = "{self.log_path}"', *self.top,
        ]
        for table, more in self.tables.items():
            lines += [f"[{table}]", *more]
        with open(os.open(self.config, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        """Whether it answers."""
        def limit():
            if self.descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))
        command = [self.binary, "run", "-c", self.config]
        environment = {**os.environ, **(self.environment or {})}
        with open(self.at("stderr"), "wb") as stderr:
            self.process = subprocess.Popen(command, preexec_fn=limit, cwd=self.folder, env=environment, process_group=0, stderr=stderr)
        self.pid = self.process.pid
        if eventually(lambda: not self.alive() or self.answers(), pause_s=0.005) and self.alive():
            return True
        self.process.kill()
        self.process.wait()
        return False

    def answers(self):
        try:
            return self.status() is not None
        except (OSError, TypeError):  # no connection, or one that ended
            return False

    def backend(self):
        return Backend(self.control)

    def status(self):
        with self.backend() as backend:
            return json.loads(backend.ask("t")[1])

    def log(self):
        """What it has written, by its log and on standard error."""
        text = ""
        for path in (self.at("stderr"), self.log_path):
            try:
                with open(path, errors="replace") as file:
                    text += file.read()
            except FileNotFoundError:
                pass
        return text

    def alive(self):
        return self.process.poll() is None

    def end(self):
        """SIGTERM; the exit code, or None when it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    # The kernel's figures of the process.

    def memory(self, field="VmRSS"):
        """Bytes."""
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))

    def forget_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")

    def descriptors_open(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_s(self):
        """To the nanosecond, of all threads."""
        total_ns = 0
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/schedstat") as file:
                total_ns += int(file.read().split()[0])
        return total_ns / 1e9

    def __exit__(self, *_):
        if self.alive():
            self.end()
        shutil.rmtree(self.folder)
