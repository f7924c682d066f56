"""What HTTP on the control socket costs: processor time of the release binary, as the kernel counts it.

usage: main.py [scrape] [oneshot] [nchan]      all of them without a name; docs/performance.md has what came out

scrape   GET /metrics with 19,000 clients and 10,000 groups
oneshot  10,000 connections with one push each, in frames and in HTTP
nchan    pushes to 1,000 subscribers beside nginx with nchan, 16 under way and one at a time

Processor time and not wall time: the machine may have other work. Linux, standard library; nchan needs Debian's
libnginx-mod-nchan.
"""
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from rig.server import Server, free_port, head  # noqa: E402

NCHAN = "/usr/lib/nginx/modules/ngx_nchan_module.so"
SUBSCRIBERS = 1000
MESSAGE = b"x" * 64
FRAME_BYTES = len(MESSAGE) + 2


def cpu_us(pid):
    """On a processor so far; a process that sleeps has its figure up to date."""
    with open(f"/proc/{pid}/schedstat") as stat:
        return int(stat.read().split()[0]) / 1000


def token(number):
    return b"%032x" % number


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    return peer


def response(peer):
    """The body of the next response."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.recv(65536)
    fields, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split()[1]) for line in fields.split(b"\r\n") if line.startswith(b"Content-Length"))
    while len(body) < length:
        body += peer.recv(65536)
    return body


def scrape(clients=19_000, groups=10_000, times=200):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    limits = [f"clients = {clients + 100}", f"unauthenticated = {clients + 100}", "groups = 100000"]
    with Server(descriptors=most, limits=limits, timeouts=["idle = 600"]) as server:
        peers = []
        for number in range(clients):
            peers.append(connect(server.local))
            peers[-1].sendall(head(token(number).decode()))
            if number % 200 == 199:
                [peer.recv(4096) for peer in peers[-200:]]
        with server.backend() as backend:
            for number in range(groups):
                backend.ask("j", b"room%d t:%s" % (number, token(number % clients)))
        status = server.status()
        print(f"scrape: {status['clients']} clients, {status['groups']} groups")
        for path in (b"/metrics", b"/status", b"/healthz"):
            asker, took = connect(server.control_path), []
            for _ in range(times):
                before = cpu_us(server.pid)
                asker.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                body = response(asker)
                time.sleep(0.002)  # so that the turn is over
                took.append(cpu_us(server.pid) - before)
            print(f"  {path.decode()}: {len(body)} bytes, median {statistics.median(took):.0f} us of CPU")


def oneshot(times=10_000, rounds=5):
    with Server() as server:
        reader = connect(server.local)
        reader.sendall(head(token(1).decode()))
        threading.Thread(target=lambda: [None for _ in iter(lambda: reader.recv(1 << 20), b"")], daemon=True).start()
        payload = b"t:%s %s" % (token(1), MESSAGE)
        fields = b"Host: wsson\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        kinds = {
            "frame": b"%dx%s" % (len(payload), payload),
            "HTTP": b"POST /send?to=t:%s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (token(1), fields, len(MESSAGE), MESSAGE),
        }
        took = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, data in kinds.items():
                before = cpu_us(server.pid)
                for _ in range(times):
                    peer = connect(server.control_path)
                    peer.sendall(data)
                    peer.recv(4096)
                    peer.close()
                time.sleep(0.1)
                took[name].append((cpu_us(server.pid) - before) / times)
        for name, figures in took.items():
            print(f"oneshot: {name}: median {statistics.median(figures):.1f} us of CPU each, {[round(f, 1) for f in figures]}")
        print(f"oneshot: ratio {statistics.median(took['HTTP']) / statistics.median(took['frame']):.2f}")


class Sink:
    """Reads what comes to all subscribers, and counts it."""

    def __init__(self, peers):
        self.poll, self.peers, self.bytes, self.stopped = select.epoll(), {}, 0, False
        for peer in peers:
            peer.setblocking(False)
            self.poll.register(peer, select.EPOLLIN)
            self.peers[peer.fileno()] = peer
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while not self.stopped:
            for number, _ in self.poll.poll(0.05):
                try:
                    self.bytes += len(self.peers[number].recv(1 << 16))
                except BlockingIOError:
                    pass


def publish(port, request, times, under_way, good):
    peer = socket.create_connection(("127.0.0.1", port))
    for _ in range(times // under_way):
        peer.sendall(request * under_way)
        answers = b""
        while answers.count(good) < under_way:
            answers += peer.recv(1 << 20)


def subscriber(port, request):
    peer = socket.create_connection(("127.0.0.1", port))
    peer.sendall(request)
    peer.recv(4096)
    return peer


def pushes(name, pid, port, peers, request, good):
    sink, figures = Sink(peers), []
    for under_way in (16, 1):
        times = 320
        publish(port, request, 32, under_way, good)
        time.sleep(0.5)
        sink.bytes, before = 0, cpu_us(pid)
        publish(port, request, times, under_way, good)
        end = time.monotonic() + 60
        while sink.bytes < times * SUBSCRIBERS * FRAME_BYTES and time.monotonic() < end:
            time.sleep(0.02)
        all_came = sink.bytes == times * SUBSCRIBERS * FRAME_BYTES
        figures.append((cpu_us(pid) - before) / times)
        print(f"nchan: {name}, {under_way} under way: {figures[-1]:.0f} us of CPU a push{'' if all_came else ', NOT ALL CAME'}")
    sink.stopped = True
    return figures


def of_wsson():
    with Server(tcp_control=True, timeouts=["idle = 600"]) as server:
        peers = [subscriber(server.port, head(token(number).decode())) for number in range(SUBSCRIBERS)]
        request = b"POST /send?to=* HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(MESSAGE), MESSAGE)
        return pushes("wsson", server.pid, int(server.control.rsplit(":", 1)[1]), peers, request, b'"refused":0')


def of_nchan():
    folder, port = tempfile.mkdtemp(), free_port()
    os.chmod(folder, 0o755)
    temp = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(f"{folder}/nginx.conf", "w") as file:
        file.write(
            f"load_module {NCHAN};\ndaemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/log;\n"
            f"worker_rlimit_nofile 10000;\nevents {{ worker_connections 9000; }}\nhttp {{ access_log off; {temp} keepalive_requests 1000000;\n"
            f"server {{ listen 127.0.0.1:{port};\n"
            "location = /pub { nchan_publisher; nchan_channel_id c; nchan_message_buffer_length 0; }\n"
            "location = /sub { nchan_subscriber websocket; nchan_channel_id c; } } }\n")
    nginx = subprocess.Popen(["nginx", "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"])
    try:
        time.sleep(1)
        with open(f"/proc/{nginx.pid}/task/{nginx.pid}/children") as children:
            worker = int(children.read().split()[0])
        opening = (b"GET /sub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        peers = [subscriber(port, opening) for _ in range(SUBSCRIBERS)]
        request = b"POST /pub HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(MESSAGE), MESSAGE)
        return pushes("nginx + nchan", worker, port, peers, request, b"HTTP/1.1 20")
    finally:
        nginx.terminate()
        nginx.wait(10)


def nchan():
    if not os.path.exists(NCHAN):
        return print("nchan: skipped, there is no libnginx-mod-nchan")
    ours, theirs = of_wsson(), of_nchan()
    print(f"nchan: ratio {theirs[0] / ours[0]:.1f} with 16 under way, {theirs[1] / ours[1]:.1f} one at a time")


def main():
    known = {"scrape": scrape, "oneshot": oneshot, "nchan": nchan}
    for name in sys.argv[1:] or known:
        known[name]()


main()
