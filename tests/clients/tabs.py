"""Real Chromium: a page that is reloaded again and again while messages come misses none (docs/resume.md, "Shown by").

The page writes down in sessionStorage what it sees, which outlives a reload. Messages are numbers in a row.
"""
import http.server
import json
import os
import queue
import tempfile
import threading
import time

import nginx
from chromium import browser, end
from harness import Server, check, cookies, free_port, not_ok, ok

HERE = os.path.dirname(os.path.abspath(__file__))
RELOADS = 100
A_SECOND = 200
PATIENCE_S = 240


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, ws_port, login, way, reloads):
        self.ws_port, self.login, self.way, self.reloads = ws_port, login, way, reloads
        self.reports, self.answers = queue.Queue(), queue.Queue()
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path not in ("/", "/away"):
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        for name, value in self.server.login.items():
            self.send_header("Set-Cookie", f"{name}={value}; Path=/; SameSite=Lax")
        self.end_headers()
        if self.path == "/away":
            return self.wfile.write(b"<!DOCTYPE html><title>Elsewhere</title><script>onload = () => setTimeout(() => history.back(), 30)</script>")
        with open(os.path.join(HERE, "tabs_page.html"), "rb") as page:
            text = page.read().replace(b"WS_PORT", b"%d" % self.server.ws_port)
            text = text.replace(b"RELOADS", b"%d" % self.server.reloads).replace(b"WAY", self.server.way.encode())
            self.wfile.write(text)

    def do_POST(self):
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.reports.put(report)
        answer = self.server.answers.get() if report["step"] == "reloaded" else {}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


def push(server, token, stop, sent):
    """Numbers, so many a second, until told to stop."""
    with server.backend() as backend:
        begin = time.monotonic()
        while not stop.is_set():
            backend.command("d", b"%s%d" % (token.encode(), sent[0]))
            sent[0] += 1
            time.sleep(max(0, begin + sent[0] / A_SECOND - time.monotonic()))


def steps(name, way, reloads, through_nginx=False):
    port, login = free_port(), cookies()
    site_port = free_port()
    with tempfile.TemporaryDirectory(prefix="wsson-tabs-", ignore_cleanup_errors=True) as folder, \
            Server([f"http://127.0.0.1:{site_port}"], limits=["connections_per_token = 10"]) as server:
        proxy = nginx.start(folder, port, os.path.join(server.folder, "server.sock")) if through_nginx else None
        site = Site(site_port, port if proxy else server.port, login, way, reloads)
        stop, sent = threading.Event(), [0]
        pusher = threading.Thread(target=push, args=(server, login["token"], stop, sent))
        process = browser(f"http://127.0.0.1:{site_port}/", folder)
        if process is None:
            return not_ok(name, "it is not installed")
        pusher.start()
        try:
            judge(name, site, pusher, stop, sent, reloads)
        except queue.Empty:
            not_ok(name, f"the page reported nothing; {sent[0]} messages were sent")
        finally:
            stop.set()
            pusher.join()
            end(process)
            site.shutdown()
            if proxy:
                proxy.terminate()
                proxy.wait(10)


def judge(name, site, pusher, stop, sent, reloads):
    site.reports.get(timeout=PATIENCE_S)
    stop.set()
    pusher.join()
    site.answers.put({"last": str(sent[0] - 1)})
    report = site.reports.get(timeout=30)
    told = {key: report.get(key) for key in ("reloads", "wsson.fresh", "missing", "gap")}
    check(f"{name}: of {sent[0]} messages nothing is missing", told,
          {"reloads": str(reloads), "wsson.fresh": "1", "missing": None, "gap": None})
    resumed, repeated, cached = (int(report.get(key, 0)) for key in ("wsson.resumed", "repeated", "cached"))
    # A page out of the cache may be away again before its socket is open.
    check(f"{name}: it came back each time", resumed >= reloads - cached, True)
    ok(f"{name}: resumed {resumed} times, {repeated} messages came again, {cached} times from the browser's own cache")


def test():
    steps("tabs reload", "location.reload()", RELOADS)
    # The page may come out of the browser's cache, with a socket that was closed.
    steps("tabs back", 'location.href = "/away"', 20)
    steps("tabs behind nginx", "location.reload()", 20, through_nginx=True)
