"""Rows 4, 6, 19 and 22: who comes with a cookie too old, a head too slow, a header too clever, a token chosen."""
import collections
import secrets
import select
import time

from rig.peers import CLOSE, Background, close_all, dial, fleet, frame, handshakes, percentile
from report import Aftermath, at_most, is_so, row
from rig.server import Server, eventually, head

LIFETIME_S = 86400
OLD_S = 1_500_000_000
MANY = "unauthenticated = 15000"


# 4: expiry

@row(4)
def expiry(quick):
    count = 200 if quick else 1000
    with Server() as server:
        aftermath = Aftermath(server)
        moment = int(time.time()) + (3 if quick else 6)
        clients = fleet(server, count, times=moment - LIFETIME_S)
        late, codes = [], collections.Counter()
        poll = select.epoll()
        for client in clients:
            poll.register(client, select.EPOLLIN)
        by_number = {client.fileno(): client for client in clients}
        talking = clients[::2]
        while by_number and time.time() < moment + 10:
            for number, _ in poll.poll(0.05):
                client, data = by_number.pop(number), b""
                data = client.recv(4096)
                late.append(time.time() - moment)
                codes[(data[0] & 15 == CLOSE and int.from_bytes(data[2:4], "big"), data[4:].decode(errors="replace"))] += 1
                poll.unregister(number)
                client.sendall(frame(0x88, data[2:4]))
            if time.time() < moment - 0.5:
                for client in talking:
                    client.sendall(frame(0x8A, b"here"))
        ended = sum(drained(client) for client in clients)
        yield is_so(f"{count} logins that end at one second, half of the clients talking: closed with", dict(codes), {(1000, "expired"): count})
        yield "↳ first and last close frame after the moment", f"{min(late):+.3f} s, {max(late):+.3f} s", "0 to 1 s", 0 <= min(late) and max(late) <= 1
        yield is_so("↳ connections that the server ended", ended, count)
        close_all(clients)
        yield from aftermath.figures()


def drained(client):
    """Whether the end comes."""
    try:
        while client.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


# 6: slowloris

class Slow:
    """Connections that send one byte of a head each second and note when they are answered and cut off."""

    def __init__(self, server, stubborn_each, source=None):
        self.server, self.poll, self.stubborn_each, self.source = server, select.epoll(), stubborn_each, source
        self.open, self.due, self.turn = {}, collections.deque(), 0
        self.answered, self.ended, self.silent_ends, self.told = [], [], 0, set()
        self.head = head(more="X: " + "y" * 200 + "\r\n")

    def add(self):
        connection = dial(self.server, source=self.source)
        connection.setblocking(False)
        now, self.turn = time.monotonic(), self.turn + 1
        number = connection.fileno()
        self.open[number] = [connection, now, 0, self.turn % self.stubborn_each == 0]
        self.due.append((now, number, now))
        self.poll.register(number, select.EPOLLIN)

    def trickle(self):
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            _, number, born = self.due.popleft()
            slow = self.open.get(number)
            if not slow or slow[1] != born:
                continue
            try:
                slow[0].send(self.head[slow[2]:slow[2] + 1])
            except OSError:
                self.end(number)
                continue
            slow[2] += 1
            self.due.append((now + 1, number, born))

    def watch(self, pause_s):
        for number, _ in self.poll.poll(pause_s):
            connection, born, _, stubborn = self.open[number]
            try:
                data = connection.recv(4096)
            except OSError:
                data = b""
            if data.startswith(b"HTTP/1.1 408"):
                self.answered.append(time.monotonic() - born)
                if stubborn:
                    self.told.add(number)
                    self.poll.modify(number, 0)  # goes on sending as if it had not been told
                    continue
            elif not stubborn or number not in self.told:
                self.silent_ends += 1
            self.end(number)

    def end(self, number):
        connection, born, _, stubborn = self.open.pop(number)
        self.told.discard(number)
        connection.close()
        if stubborn:
            self.ended.append(time.monotonic() - born)


def slowloris(stopped, server, count, rate):
    slow, begin = Slow(server, 10), time.monotonic()
    while (slow.open or slow.turn < count) and time.monotonic() < begin + 60:
        wanted = min(count, int((time.monotonic() - begin) * rate))
        for _ in range(min(wanted - slow.turn, 50)):
            slow.add()
        slow.trickle()
        slow.watch(0.001)
    return slow.answered, slow.ended, slow.silent_ends, len(slow.open)


@row(6)
def slow_heads(quick):
    count = 1000 if quick else 10000
    with Server(limits=[MANY]) as server:
        aftermath = Aftermath(server)
        yield from besieged(server, count)
        yield from aftermath.figures(1.0)
        if not quick:
            first = server.memory()
            list(besieged(server, count))
            eventually(aftermath.is_quiet, 40)
            again = (server.memory() - first) / (1 << 20)
            yield "↳ RSS after the same attack once more, against after the first", f"{again:+.2f} MiB", "≤ +1 MiB", again <= 1
    with Server() as server:
        aftermath = Aftermath(server)
        genuine = Background(handshakes, server)
        crowd = Background(slowloris, server, count, 4000, nice=5)
        answered, _, dropped, _ = crowd.wait()
        took = genuine.stop()
        yield is_so(f"the same with the default limit ({dropped} dropped as the oldest, {len(answered)} answered): genuine handshakes that failed", took.count(None), 0)
        yield at_most(f"↳ p99 of {len(took)} genuine handshakes", percentile([s for s in took if s], .99) * 1e3, 50, "ms")
        yield from aftermath.figures()


def besieged(server, count):
    genuine = Background(handshakes, server)
    crowd = Background(slowloris, server, count, 2500, nice=5)
    peak = 0
    while crowd.process.is_alive() and not crowd.pipe.poll(0.1):
        peak = max(peak, server.status()["unauthenticated"])
    answered, ended, silent, left = crowd.wait()
    took = genuine.stop()
    good = [seconds for seconds in took if seconds is not None]
    what = f"{count} connections at one byte a second (at most {peak} at once): answered 408 after"
    within = bool(answered) and 4.5 <= min(answered) and max(answered) <= 5.5
    yield what, f"{min(answered, default=0):.2f} to {max(answered, default=0):.2f} s", "5 ± 0.5 s", within
    yield is_so("↳ answered; ended without an answer; still there", (len(answered), silent, left), (count, 0, 0))
    worst = max(ended, default=0)
    yield "↳ those that ignore the answer and go on sending are reset after", f"≤ {worst:.2f} s", "≤ 11.5 s", len(ended) > 0 and worst <= 11.5
    yield at_most(f"↳ p99 of {len(good)} genuine handshakes meanwhile ({len(took) - len(good)} failed)", percentile(good, .99) * 1e3, 50, "ms")


# 19: the log

@row(19)
def forged_log(quick):
    forged = "2026-01-01T00:00:00Z info forged"
    fields = ["Origin", "Cookie", "Host", "User-Agent", "X-Forwarded-For", "Sec-WebSocket-Key", "Upgrade", "X-Other"]
    evil = [f"a\r{forged}", f"a\n{forged}", f"a\x1b[2J{forged}", f"a\x00{forged}", f"a\x85{forged}", f"a\u2028{forged}", "a" * 7000 + forged]
    with Server() as server:
        Aftermath(server)
        before = server.log().count("\n")
        sent = 0
        for field in fields:
            for value in evil:
                with dial(server) as stranger:
                    stranger.sendall(f"GET / HTTP/1.1\r\n{field}: {value}\r\n".encode() + head(time_s=OLD_S)[16:])
                    drained(stranger)
                    sent += 1
        eventually(lambda: server.log().count("\n") >= before + sent, 3)
        with open(server.log_path, "rb") as file:
            lines = file.read().splitlines()[before:]
        raw = sum(any(byte < 32 or byte == 127 for byte in line) for line in lines)
        forgeries = sum(line.startswith(forged.encode()) for line in lines)
        longest = max(map(len, lines), default=0)
        yield is_so(f"{sent} requests with CR, LF, ESC, NUL, NEL, U+2028 or 7,000 bytes in {len(fields)} headers: lines in the log", len(lines), sent)
        yield is_so("↳ lines that begin as forged; lines with a raw control character", (forgeries, raw), (0, 0))
        yield at_most("↳ longest line", longest, 1000, "bytes")


# 22: hash flooding

def chosen(count, salt):
    return [f"{salt}{place:031d}" for place in range(count)]


def random(count, _):
    return [secrets.token_hex(16) for _ in range(count)]


@row(22)
def hash_flood(quick):
    total, at_once = (4000, 2000) if quick else (100_000, 10_000)
    cost = {random: [0, 0], chosen: [0, 0]}
    with Server() as server:
        aftermath = Aftermath(server)
        for batch in range(total // at_once):
            for make in (random, chosen) if batch % 2 else (chosen, random):
                tokens = make(at_once, batch % 10)
                for place, seconds in enumerate(indexed(server, tokens)):
                    cost[make][place] += seconds
        for place, what in enumerate((f"{total} handshakes, {at_once} open at once", f"{total} lookups by `c`")):
            ratio = cost[chosen][place] / cost[random][place]
            what += f": the server's CPU time with counting tokens ({cost[chosen][place]:.3f} s) against random ones ({cost[random][place]:.3f} s)"
            yield what, f"{ratio:.2f} ×", "≤ 2 ×", ratio <= 2
        yield from aftermath.figures()


def indexed(server, tokens):
    """CPU seconds of the server: to let them all in; to look each of them up."""
    begin = server.cpu_s()
    clients = fleet(server, len(tokens), tokens=tokens)
    middle = server.cpu_s()
    with server.backend() as backend:
        for start in range(0, len(tokens), 1000):
            some = tokens[start:start + 1000]
            backend.socket.sendall(b"".join(b"32c" + token.encode() for token in some))
            if any(backend.reply()[0] != "A" for _ in some):
                raise RuntimeError("an open client was not found")
    end = server.cpu_s()
    close_all(clients)
    if not eventually(lambda: server.status()["clients"] == 0):
        raise RuntimeError("clients are left")
    return middle - begin, end - middle
