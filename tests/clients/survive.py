"""The pushes of README.md in programs that stay: with no wsson, with one that restarts, and after a long silence.

Each block is run up to its first call, and then told on standard input what to push. Whatever happens, the program
goes on; what could not be pushed is told, and everything else arrives.
"""
import contextlib
import os
import subprocess
import sys
import tempfile
import time

import snippets
from harness import PATIENCE_S, ROOT, Server, check, cookie_header, cookies, not_ok
from snippets import ORIGIN, Place, blocks
from websockets.sync.client import connect

# Seconds of silence before wsson asks, and again before it ends the backend.
CONTROL_S = 0.3

# Where the example calls begin, what reads the lines, and what runs it.
LANGUAGES = {
    "push-php": ("push(", "while (($line = fgets(STDIN)) !== false) { echo push('b', rtrim($line, \"\\n\")) ? 'true' : 'false', \"\\n\"; }",
                 ["php"]),
    "push-python": ("push(b", "import sys\nfor line in sys.stdin:\n    print('true' if push(b'b', line.rstrip()) else 'false', flush=True)\n",
                    [sys.executable]),
    "push-node": ("(async", "require('readline').createInterface({ input: process.stdin })"
                            ".on('line', async line => console.log(String(await push('b', line))));", ["node"]),
    "push-sh": ("printf", "while read -r line; do printf %s \"${#line}b$line\" | nc -NU /run/wsson/control.sock 2>/dev/null"
                          " && echo true || echo false; done", ["sh"]),
    "push-wsson": ("wsson", "while read -r line; do wsson send --all \"$line\" 2>/dev/null && echo true || echo false; done", ["sh"]),
}


class Program:
    """The functions of a block in a program that pushes each line it is given."""

    def __init__(self, place, name, code):
        call, loop, runner = LANGUAGES[name]
        head = code[: code.index("\n" + call) + 1] if not code.startswith(call) else ""
        self.file = tempfile.NamedTemporaryFile("w", suffix=name)
        self.file.write(place.code(head + loop))
        self.file.flush()
        env = {**os.environ, "PATH": f"{place.bin}:{os.environ['PATH']}"}
        self.process = subprocess.Popen([*runner, self.file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=env)

    def push(self, message):
        self.process.stdin.write(message + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.file.close()
        return code


@contextlib.contextmanager
def browser(server):
    with connect(f"ws://127.0.0.1:{server.port}/", additional_headers={"Cookie": cookie_header(cookies())}, origin=ORIGIN,
                 compression=None) as client:
        yield client


def backends(server):
    with server.backend() as backend:
        backend.command("t")
        letter, report = backend.reply()
        assert letter == "T"
        return int(report.split(b'"backends":')[1].split(b",")[0])


def silence(server):
    """Until wsson has ended every backend that was silent, which takes two keep-alives. Its own question counts as one."""
    end = time.monotonic() + PATIENCE_S
    while backends(server) > 1:
        if time.monotonic() > end:
            return not_ok("silence", "a silent backend was not ended")
        time.sleep(CONTROL_S)
    time.sleep(2.5 * CONTROL_S)


def arrives(server, program, name, message):
    with browser(server) as client:
        check(f"{name}: it says that it pushed", program.push(message), "true")
        try:
            check(f"{name}: it arrives", client.recv(timeout=PATIENCE_S), message)
        except TimeoutError:
            not_ok(f"{name}: it arrives", "nothing came")


def survives(server, place, name, code):
    program = Program(place, name, code)
    arrives(server, program, f"survive {name}", "first")
    arrives(server, program, f"survive {name} on the same connection", "second")
    silence(server)
    arrives(server, program, f"survive {name} after a silence", "after a silence")
    server.stop()
    server.again()
    arrives(server, program, f"survive {name} after a restart", "after a restart")
    server.stop()
    check(f"survive {name}: without wsson it is false", [program.push("lost"), program.push("lost too")], ["false"] * 2)
    server.again()
    arrives(server, program, f"survive {name} after it was down", "back")
    check(f"survive {name}: the program ends well", program.end(), 0)


def starts_without(server, place, name, code):
    """A program whose very first push finds no wsson."""
    program = Program(place, name, code)
    check(f"survive {name}: it begins without wsson", program.push("lost"), "false")
    check(f"survive {name}: and ends well", program.end(), 0)


def test():
    marked = {name: block for name, block in blocks("run").items() if name.startswith("push-")}
    check("survive: every push is tested", set(marked) ^ set(LANGUAGES), set())
    with Server([ORIGIN], timeouts=[f"control = {CONTROL_S}"]) as server:
        place = Place(server)
        for name, (_, code) in marked.items():
            survives(server, place, name, code)
        server.stop()
        for name, (_, code) in marked.items():
            starts_without(server, place, name, code)
        server.again()


if __name__ == "__main__":
    test()
    snippets.finish()
