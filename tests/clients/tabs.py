"""Real Chromium: a page that is reloaded again and again while messages come misses none (docs/resume.md, "Shown by").

The page writes down in sessionStorage what it sees, which outlives a reload. Messages are numbers in a row. And a real
change of networks: a network namespace whose address goes away while another one comes.
"""
import ctypes
import http.server
import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import nginx
from chromium import browser, end
from harness import Server, check, cookie_header, cookies, free_port, not_ok, ok
from rig.peers import PING, TEXT, frame, read_head, take_frame

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


# A change of networks.

CLONE_NEWNET = 0x40000000
SERVER, OLD, NEW = "10.99.7.1", "10.99.7.2", "10.99.7.3"


class Phone:
    """A network namespace, joined to this one by a cable; its address can be another one."""

    def __enter__(self):
        self.name = f"wsson{os.getpid()}"
        self.cable = [f"ws{os.getpid()}a", f"ws{os.getpid()}b"]
        here, there = self.cable
        self.ip("netns", "add", self.name)
        self.ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        self.ip("addr", "add", f"{SERVER}/24", "dev", here)
        self.ip("link", "set", here, "up")
        self.inside("addr", "add", f"{OLD}/24", "dev", there)
        self.inside("link", "set", there, "up")
        self.namespaces = [os.open(path, os.O_RDONLY) for path in ("/proc/self/ns/net", f"/run/netns/{self.name}")]
        return self

    def __exit__(self, *_):
        [os.close(namespace) for namespace in self.namespaces]
        # A socket that says goodbye to nobody would keep the namespace, and the cable with it, for minutes.
        self.ip("link", "del", self.cable[0])
        self.ip("netns", "del", self.name)

    def ip(self, *words):
        subprocess.run(["ip", *words], check=True)

    def inside(self, *words):
        self.ip("netns", "exec", self.name, "ip", *words)

    def moves(self):
        self.inside("addr", "del", f"{OLD}/24", "dev", self.cable[1])
        self.inside("addr", "add", f"{NEW}/24", "dev", self.cable[1])

    def connect(self, port):
        """A socket of the namespace."""
        setns = ctypes.CDLL(None, use_errno=True).setns
        here, there = self.namespaces
        assert setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            return socket.create_connection((SERVER, port), 10)
        finally:
            setns(here, CLONE_NEWNET)


class OnTheCable(Server):
    def urls(self):
        return [f"tcp://{SERVER}:{self.port}", f"unix://{self.local}"]


def page(connection, login):
    """What it is told."""
    lines = [
        "GET /?tab=phone HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: https://example.com", f"Cookie: {cookie_header(login)}",
        "Sec-WebSocket-Protocol: wsson.fresh, wsson.resumed",
    ]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return read_head(connection).partition(b"Sec-WebSocket-Protocol: ")[2].partition(b"\r\n")[0].decode()


def texts(connection, last):
    buffer, got = bytearray(), []
    while last not in got:
        buffer += connection.recv(65536)
        while found := take_frame(buffer):
            if found[0] == TEXT:
                got.append(found[1].decode())
            elif found[0] == PING:
                connection.sendall(frame(0x8A, found[1]))
    return got


def network():
    if os.geteuid() != 0 or not shutil.which("ip"):
        return print("skipped: a change of networks needs root and ip", flush=True)
    login = cookies()
    token = login["token"].encode()
    with Phone() as phone, OnTheCable(["https://example.com"]) as server, server.backend() as backend:
        old = phone.connect(server.port)
        check("tabs network: told at first", page(old, login), "wsson.fresh")
        backend.ask("c", token + b"before")
        check("tabs network: before", texts(old, "before"), ["before"])
        phone.moves()
        for message in (b"on the way", b"without a network"):
            backend.ask("c", token + message)
        check("tabs network: the server has seen nothing", server.status()["clients"], 1)
        new = phone.connect(server.port)
        check("tabs network: another address", new.getsockname()[0], NEW)
        check("tabs network: told then", page(new, login), "wsson.resumed")
        check("tabs network: nothing is missing", texts(new, "without a network")[-2:], ["on the way", "without a network"])
        backend.ask("c", token + b"after")
        check("tabs network: it goes on", texts(new, "after"), ["after"])
        status = server.status()
        check("tabs network: the old connection", (status["clients"], status["closed"]), (1, {"4002": 1}))


def test():
    network()
    steps("tabs reload", "location.reload()", RELOADS)
    # The page may come out of the browser's cache, with a socket that was closed.
    steps("tabs back", 'location.href = "/away"', 20)
    steps("tabs behind nginx", "location.reload()", 20, through_nginx=True)
