"""The parts that all client tests share: a server of their own, cookies as the site would sign them, and the report.

Python 3.11, standard library only. Each test prints `ok NAME` or `not ok NAME: why`; tests/run counts the lines.
"""
import os
import secrets
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from rig import server  # noqa: E402
from rig.server import BINARY, PATIENCE_S, ROOT, SECRET, Backend, free_port  # noqa: E402,F401

CACHE = os.path.join(ROOT, "tests", ".cache")

failed = 0
# tests/run ends a test that takes too long: then the processes started here have to end too.
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
    """The three cookies of a login, as a dictionary."""
    return dict(pair.split("=") for pair in server.cookies(token, time_s).split("; "))


def cookie_header(values):
    return "; ".join(f"{name}={value}" for name, value in values.items())


class Server(server.Server):
    """With its control socket on TCP or in the file system, and a check that it ends well."""

    def __init__(self, origins, control="unix", top=(), **tables):
        super().__init__(origins=origins, tcp_control=control == "tcp", top=top, **tables)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)

    def again(self):
        """The same server at the same addresses, after `stop`."""
        if not self.start():
            sys.exit(f"the server did not start again:\n{self.log()}")

    def __exit__(self, *_):
        """SIGTERM must end it, with exit code 0, and soon."""
        if self.alive():
            check("server ends with 0 on SIGTERM", self.end(), 0)
        else:
            not_ok("server stays up", f"it ended with {self.process.returncode}: {self.log()[-500:]}")
        if failed:
            print("--- the server's log ---\n" + self.log()[-4000:], file=sys.stderr)
        shutil.rmtree(self.folder)


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
