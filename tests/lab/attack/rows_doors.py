"""Rows 31 and 39 to 41: who comes in great numbers, who fills the other door, what others make known programs say to it,
and a pause of the whole process.
"""
import collections
import os
import select
import signal
import socket
import time

from report import Aftermath, is_so, row
from rig.peers import TEXT, Background, Client, handshakes, percentile
from rig.server import Server, eventually, head
from rows_budget import cast, codes, readers, tokens
from rows_strangers import Slow

REQUEST_AFTER_S = 0.6


# 31: a mass reconnect beside a flood

def come_back(stopped, server, count, first):
    """Authorised browsers, all within a second, from many addresses, each 600 ms from connecting to its request. What came
    of the first attempts, and the 99th percentile of the seconds from the request to the 101."""
    poll, here, due, took, made = select.epoll(), {}, collections.deque(), [], 0
    found, begin = collections.Counter(), time.monotonic()

    def end(number, how):
        connection, _ = here.pop(number)
        poll.unregister(number)
        found[how] += 1
        connection.close()

    while made < count or here:
        now = time.monotonic()
        if now > begin + 60:
            break
        while made < min(count, (now - begin) * count):
            connection = socket.socket()
            connection.setblocking(False)
            # No port is needed until the other side is known, and so each address has all of them for this server.
            connection.setsockopt(socket.IPPROTO_IP, 24, 1)
            place = first + made // 100
            connection.bind((f"127.1.{place // 250}.{place % 250 + 1}", 0))
            connection.connect_ex(("127.0.0.1", server.port))
            poll.register(connection, select.EPOLLOUT)
            here[connection.fileno()] = [connection, 0.0]
            made += 1
        while due and due[0][0] <= now:
            number = due.popleft()[1]
            if number in here:
                try:
                    here[number][0].send(head())
                    here[number][1] = now
                except OSError as error:
                    end(number, type(error).__name__)
        for number, events in poll.poll(0.002):
            connection, asked = here[number]
            if events == select.EPOLLOUT:  # connected
                poll.modify(number, select.EPOLLIN)
                due.append((now + REQUEST_AFTER_S, number))
                continue
            try:
                answer = connection.recv(4096)
            except OSError as error:
                end(number, type(error).__name__)
                continue
            if answer.startswith(b"HTTP/1.1 101"):
                took.append(time.monotonic() - asked)
                kept.append(connection)
                poll.unregister(number)
                here.pop(number)
                found["in"] += 1
            else:
                end(number, "dropped" if not answer else answer[9:12].decode())
    found["no answer"] += len(here)
    return found, percentile(took, .99)


kept = []  # of this process


def slow_heads(stopped, server, count):
    """A slowloris from one address: each connection that is cut off is replaced."""
    slow = Slow(server, 10, source="127.0.0.66")
    while not stopped():
        while len(slow.open) < count and not stopped():
            try:
                slow.add()
            except OSError:
                break
            if slow.turn % 50 == 0:
                slow.trickle()
                slow.watch(0)
        slow.trickle()
        slow.watch(0.005)
    return slow.turn


@row(31)
def mass_reconnect(quick):
    total, siege, workers = (1500, 800, 3) if quick else (18_000, 10_000, 6)
    with Server(limits=["clients = 4000"] if quick else []) as server:
        aftermath = Aftermath(server)
        flood = Background(slow_heads, server, siege, nice=5)
        eventually(lambda: server.status()["unauthenticated"] >= siege * 0.9 or server.log().count("\n") > siege, 8)
        crowd = [Background(come_back, server, total // workers, place * 200) for place in range(workers)]
        came = [one.wait() for one in crowd]
        attempts = flood.stop()
        found = dict(sum((found for found, _ in came), collections.Counter()))
        what = f"{total} authorised browsers within a second, each 600 ms from connecting to its request, beside a slowloris of {siege} ({attempts} connections): at the first attempt"
        yield is_so(what, found, {"in": total})
        worst = max(seconds for _, seconds in came)
        yield "↳ p99 from the request to 101", f"{worst * 1e3:.0f} ms", "≤ 1000 ms", worst <= 1
        yield from aftermath.figures(4.0)


# 39: backends

@row(39)
def many_backends(quick):
    with Server(descriptors=400) as server:
        aftermath = Aftermath(server)
        backends = []
        for _ in range(380):
            backend = socket.socket(socket.AF_UNIX)
            backend.settimeout(0.2)
            try:
                backend.connect(server.control_path)
            except OSError:
                backend.close()
                break
            backends.append(backend)
        time.sleep(0.5)
        genuine = Background(handshakes, server)
        time.sleep(2)
        told = 0
        for backend in backends:
            try:
                told += backend.recv(100).startswith(b"0E")
            except OSError:
                pass
        took = genuine.stop()
        held = len(backends) - told
        yield f"{len(backends)} backends under a limit of 400 descriptors: kept", f"{held}", "≤ 100, a quarter", held <= 100
        good = sum(s is not None for s in took)
        yield "↳ clients that came in meanwhile; that did not", f"{good}; {len(took) - good}", "all", good > 50 and good == len(took)
        for backend in backends:
            backend.close()
        yield from aftermath.figures()


# 40: the first bytes of known programs

LDAP = b"\x30\x62\x02\x01\x01\x60\x5d\x02\x01\x03\x04\x50" + b"cn=" + b"x" * 77 + b"\x80\x06secret"
OPENERS = {
    "an LDAP bind of 98 bytes": LDAP,
    "an LDAP bind of 100 bytes": b"\x30\x64" + LDAP[2:] + b"xx",
    "an LDAP search": b"\x30\x25\x02\x01\x01\x63\x20\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00",
    "curl -X 5bHELLO": b"5bHELLO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "the method 0b": b"0b / HTTP/1.1\r\nHost: x\r\n\r\n",
    "the method 0p0b": b"0p0b / HTTP/1.1\r\nHost: x\r\n\r\n",
    "the method 37dTOKEN": b"37d" + b"r" * 32 + b"HELLO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "fetch, method 0B in lower case": b"0B /5bHELLO HTTP/1.1\r\nHost: x\r\n\r\n5bHELLO",
    "POST /0p5bHELLO": b"POST /0p5bHELLO HTTP/1.1\r\nHost: x\r\n\r\n5bHELLO",
    "GET with 5bHELLO in its body": b"GET / HTTP/1.1\r\nContent-Length: 7\r\n\r\n5bHELLO",
    "SIP INVITE": b"INVITE sip:5bHELLO@x SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n5bHELLO",
    "SIP OPTIONS": b"OPTIONS sip:x SIP/2.0\r\n\r\n",
    "RTSP": b"DESCRIBE rtsp://x/5bHELLO RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    "Redis": b"*1\r\n$7\r\n5bHELLO\r\n",
    "Redis inline": b"PING\r\n5bHELLO\r\n",
    "memcached": b"set k 0 0 7\r\n5bHELLO\r\n",
    "memcached binary": b"\x80\x00\x00\x00\x00\x00\x00\x00" + b"\0" * 16 + b"5bHELLO",
    "FTP": b"USER 5bHELLO\r\nPASS 5bHELLO\r\n",
    "SMTP": b"EHLO x\r\nMAIL FROM:<a@x>\r\nDATA\r\n5bHELLO\r\n.\r\n",
    "SSH": b"SSH-2.0-5bHELLO\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"5bHELLO" * 20,
    "PostgreSQL": b"\0\0\0\x08\x04\xd2\x16\x2f5bHELLO",
    "DNS over TCP": b"\x00\x1d\x30\x62\x01\x00\x00\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01",
}


@row(40)
def openers(quick):
    with Server(tcp_control=True) as server:
        aftermath = Aftermath(server)
        executed, halves = [], []
        with Client(server, "r" * 32) as client:
            for name, data in OPENERS.items():
                for cut in (None, 1, 2, 8):  # in one piece, and in two
                    say(server, data, cut)
                    with server.backend() as backend:
                        backend.command("d", b"r" * 32 + b"nothing else")
                    while (found := client.receive()) and found[1] != b"nothing else":
                        if found[0] == TEXT or found[0] == 2:
                            (halves if cut else executed).append(f"{name}: {found[1][:20]!r}")
            yield is_so(f"{len(OPENERS)} openers of other protocols on a TCP control port: commands executed", executed or 0, 0)
            yield "↳ sent in two pieces, so that the server sees the first alone", ", ".join(sorted(set(halves))) or "0", "none without a control key", None
            say(server, b"5bHELLO\r\n", None)
            found = client.receive()
            yield "↳ gopher://…/_5bHELLO, which chooses every byte", f"executed: {found[1]!r}", "none without a control key", None
            say(server, b"0b", None)
            yield is_so("↳ a backend's empty broadcast still arrives", client.receive(), (TEXT, b""))
        yield from aftermath.figures()


def say(server, data, cut):
    """As a client that sends, reads the answer and leaves. Where it pauses, the server has read what came before."""
    host, port = server.control.removeprefix("tcp:").split(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if cut:
                connection.sendall(data[:cut])
                time.sleep(0.005)
            connection.sendall(data[cut or 0:])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except OSError:
            pass


# 41: a pause

@row(41)
def a_pause(quick):
    timeouts = ["idle = 1.5", "pong = 1.5", "control = 1.5"] if quick else []
    pause_s = 4 if quick else 31
    with Server(timeouts=timeouts) as server:
        names = tokens("r", 20)
        crowd = cast(server, readers, names)
        backends = [server.backend() for _ in range(5)]
        for backend in backends:
            backend.ask("p")
        time.sleep(0.5)
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(pause_s)
        os.kill(server.pid, signal.SIGCONT)
        time.sleep(1)
        for backend in backends:
            try:
                backend.command("p")
            except OSError:
                pass
        answered = sum(reply_of(backend) for backend in backends)
        heard = crowd.stop()
        yield is_so(f"stopped for {pause_s} s and continued: of 20 clients that answer pings, closed", codes(heard), {})
        yield is_so("↳ of 5 backends, there and answered", answered, 5)


def reply_of(backend):
    """Whether it answers; its own pings are answered first."""
    try:
        for _ in range(5):
            reply = backend.reply()
            if reply is None:
                return False
            if reply[0] == "P":
                return True
            if reply[0] == "p":
                backend.command("P")
    except (OSError, ValueError):
        pass
    return False
