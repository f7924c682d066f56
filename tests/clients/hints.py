"""What the documents tell people to type into a browser, typed into a real Chromium.

The page of README.md that connects again, what `wsson cookie` prints for the console, and what the heads of the examples say.
"""
import contextlib
import http.server
import os
import re
import subprocess
import tempfile
import threading

import demo_page
from demo_page import wait
from harness import BINARY, PATIENCE_S, ROOT, Server, check, cookies, finish, free_port
from snippets import blocks

EXAMPLES = ("broadcast", "echo", "terminal")


@contextlib.contextmanager
def site(port, fields=()):
    """A page without anything in it, under the names that this host has, with these Set-Cookie values."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            for field in fields:
                self.send_header("Set-Cookie", field)
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>site</title>")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def page_comes_back(browser):
    """README.md, "In the browser": opened again after a restart."""
    port = free_port()
    fields = [f"{name}={value}; Path=/; HttpOnly; SameSite=Lax" for name, value in cookies().items()]
    with Server([f"http://localhost:{port}"]) as server, site(port, fields):
        tab = browser.tab(f"http://localhost:{port}/")
        code = blocks("run")["browser"][1].replace("wss://ws.example.com/", f"ws://localhost:{server.port}/")
        body = "/* event.data is what was pushed */"
        assert body in code
        tab.run("window.got = []; " + code.replace(body, "got.push(event.data)"))
        for message in ("before", "after"):
            wait(f"the snippet's page is open {message} the restart", lambda: clients(server) == 1)
            with server.backend() as backend:
                backend.command("b", message.encode())
            if wait(f"hint: it gets what comes {message} the restart", lambda: message in tab.run("got")):
                check(f"hint: the page of README {message} a restart", tab.run("got[got.length - 1]"), message)
            if message == "before":
                server.stop()
                server.again()


def clients(server):
    with server.backend() as backend:
        backend.command("t")
        return int(re.search(rb'"clients":(\d+),"clients_peak"', backend.reply()[1])[1])


def console(tab, text):
    """Types the text, and collects what the console shows."""
    tab.run("window.shown = []; for (const name of ['log', 'error']) console[name] = (...all) => shown.push(all.join(' '));")
    tab.run(text)


def pasted(browser):
    """What `wsson cookie` prints, on a page of the allowed origin, whatever its name."""
    for host in ("localhost", "127.0.0.1"):
        port = free_port()
        with Server([f"http://{host}:{port}"]) as server, site(port):
            script = subprocess.check_output([BINARY, "cookie", "-c", os.path.join(server.folder, "wsson.toml")], text=True)
            tab = browser.tab(f"http://{host}:{port}/")
            console(tab, script)
            wait("the pasted lines connect", lambda: tab.run("shown"))
            check(f"hint: what `wsson cookie` prints connects on {host}", tab.run("shown"), ["connected"])
            with server.backend() as backend:
                backend.command("b", b"Hello")
            wait("the pasted lines show messages", lambda: len(tab.run("shown")) == 2)
            check(f"hint: and shows messages on {host}", tab.run("shown[1]"), "Hello")


@contextlib.contextmanager
def example(name, port):
    folder = os.path.join(os.path.dirname(BINARY), "examples")
    with tempfile.TemporaryDirectory() as temporary:
        process = subprocess.Popen([os.path.join(folder, name), f"tcp://127.0.0.1:{port}"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": temporary})
        try:
            process.stdout.readline()
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            process.stdin.close()
            process.stdout.close()


def typed(name, port):
    """Page and lines in the head of an example, with another port: the address, and what is between backquotes."""
    with open(os.path.join(ROOT, "examples", f"{name}.rs")) as source:
        head = "".join(line[3:].lstrip() for line in source if line.startswith("//!"))
    address = re.search(r"<(http://127\.0\.0\.1:8099/)>", head)[1]
    lines = [code for code in re.findall(r"`([^`]+)`", head) if code.startswith("s")]
    return address.replace("8099", str(port)), [line.replace("8099", str(port)) for line in lines]


def examples(browser):
    for name in EXAMPLES:
        port = free_port()
        with example(name, port) as process:
            address, lines = typed(name, port)
            tab = browser.tab(address)
            check(f"hint: the page for {name} says what it is", "speaks WebSocket" in tab.run("document.body.innerText"), True)
            console(tab, lines[0])
            if name == "broadcast":
                other = browser.tab(address)
                console(other, lines[0])
                wait("both tabs of broadcast are open", lambda: "2 here" in tab.run("shown") and "2 here" in other.run("shown"))
                other.run(lines[1])
            elif name == "terminal":
                check("hint: terminal prints what the browser says", process.stdout.readline(), "< hi\n")
                process.stdin.write("hi\n")
                process.stdin.flush()
            if wait(f"hint: {name} answers", lambda: "hi" in tab.run("shown")):
                check(f"hint: {name} works as its head says", tab.run("shown.filter(text => text === 'hi').length"), 1)


def test():
    with demo_page.Browser() as browser:
        page_comes_back(browser)
        pasted(browser)
        examples(browser)


if __name__ == "__main__":
    test()
    finish()
