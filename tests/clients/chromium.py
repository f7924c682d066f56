"""Headless Chromium, with a page, cookies and an Origin of its own.

A small server on loopback hands out the page and its cookies, and a second port of it is the other site. The page reports
each step with a POST, so nothing has to look into the browser. Cookies know no ports: the WebSocket's port gets them too.
"""
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading

from harness import Server, check, cookies, free_port, not_ok, ok

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]


class Site(http.server.ThreadingHTTPServer):
    """Serves the page on one port; what the page reports goes into a queue, and waits for an answer from another."""
    daemon_threads = True

    def __init__(self, port, ws_port, login):
        self.ws_port, self.login = ws_port, login
        self.reports, self.answers = queue.Queue(), queue.Queue()
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path not in ("/", "/login", "/forged", "/other"):
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        login = dict(self.server.login)
        if self.path == "/forged":
            login["digest"] = "0" * 32
        if self.path != "/other":
            for name, value in login.items():
                self.send_header("Set-Cookie", f"{name}={value}; Path=/; SameSite=Lax")
        self.end_headers()
        with open(os.path.join(HERE, "page.html"), "rb") as page:
            self.wfile.write(page.read().replace(b"WS_PORT", b"%d" % self.server.ws_port))

    def do_POST(self):
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.reports.put(report)
        answer = self.server.answers.get() if report["step"] == "ready" else {}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


def browser(url, folder, *flags):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        return None
    with open(os.path.join(folder, "chromium.log"), "w") as log:
        # A group of its own, so that its helpers end with it.
        return subprocess.Popen([program, *FLAGS, *flags, f"--user-data-dir={folder}/profile", url],
                                stdout=log, stderr=log, start_new_session=True)


def end(process):
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def backend_part(server, token):
    """The page's next messages: fragments, a broadcast, a binary message."""
    with server.backend() as backend:
        replies = []
        for letter, payload in [("l", token), ("f", b"one "), ("i", b"two "), ("s", b"three"), ("c", token + b"direct")]:
            backend.command(letter, payload)
            replies.append(backend.reply()[0])
        backend.command("b", "hällo to all".encode())
        backend.command("B", b"\x00\xff")
        check("chromium backend's replies", replies, ["A", "a", "a", "a", "A"])


def steps(server, page, login):
    """Passes the page's reports on until it says that it is done."""
    while True:
        try:
            report = page.reports.get(timeout=60)
        except queue.Empty:
            return not_ok("chromium", "the page reported nothing for 60 s")
        if report["step"] == "ready":
            backend_part(server, login["token"].encode())
            page.answers.put({})
        elif report["step"] == "done":
            return ok("chromium done")
        else:
            check(f"chromium {report['step']}", report["found"], report["expected"])


def test():
    port = free_port()
    login = cookies()
    limits = ["message = 1048576", "outbox = 4194304"]
    with Server([f"http://127.0.0.1:{port}"], top=['on_message = "echo"'], limits=limits) as server:
        page, other = Site(port, server.port, login), Site(0, server.port, login)
        folder = tempfile.mkdtemp(prefix="wsson-chromium-")
        process = browser(f"http://127.0.0.1:{port}/#{other.server_address[1]}", folder)
        if process is None:
            shutil.rmtree(folder)
            return not_ok("chromium", "it is not installed")
        try:
            steps(server, page, login)
        finally:
            end(process)
            shutil.rmtree(folder, ignore_errors=True)
            page.shutdown()
            other.shutdown()
