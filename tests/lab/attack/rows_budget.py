"""Rows 34 to 38: nobody pays for what a stranger or a slow reader does. What a peer can make the server keep is within a
budget; who takes everything at once is never closed, and gets what was sent.
"""
import collections
import os
import select
import socket
import time

from report import Aftermath, at_most, is_so, row
from rig.peers import BINARY as BINARY_FRAME, CLOSE, PING, PONG, TEXT, Background, Client, close_all, dial, fleet, frame, handshakes, percentile
from rig.server import BINARY, MIB, ROOT, Server, eventually

QUEUED = 'queued = "16 MiB"'
BUDGET_MIB = 16 * 1.1


def received():
    """The line for what is received and not complete; a server of before this limit would not start with it."""
    with open(BINARY, "rb") as file:
        return ['received = "16 MiB"'] if b"limits.received" in file.read() else []


def tokens(letter, count):
    return [f"{letter}{place:031d}" for place in range(count)]


Heard = collections.namedtuple("Heard", "messages bytes code")


def readers(stopped, server, names, shallow=True, opening=b"", pace_bytes_s=None):
    """Clients that take everything at once and answer pings; or together not more than `pace_bytes_s`. By token: how many
    data frames and bytes of payload came, and the close code (None: still open, 0: an end without one)."""
    poll, clients, found = select.epoll(), {}, {name: [0, 0, None] for name in names}
    for name in names:
        client = Client(server, name, shallow)
        client.name = name
        client.socket.setblocking(False)
        clients[client.socket.fileno()] = client
        client.output = opening
        # What they say first goes out while they read: a browser does not stop to read for it.
        poll.register(client.socket, select.EPOLLIN | (select.EPOLLOUT if opening else 0))
    begin, taken = time.monotonic(), 0
    while not stopped():
        if pace_bytes_s and taken > (time.monotonic() - begin) * pace_bytes_s:
            time.sleep(0.001)
            continue
        for number, ready in poll.poll(0.02):
            client = clients[number]
            if ready & select.EPOLLOUT:
                client.output = client.output[client.socket.send(client.output):]
                if not client.output:
                    poll.modify(client.socket, select.EPOLLIN)
            if not ready & ~select.EPOLLOUT:
                continue
            try:
                more = client.socket.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                more = b""
            taken += len(more)
            if not taken:
                begin = time.monotonic()
            client.input += more
            counts = found[client.name]
            while message := client.take():
                opcode, payload = message
                if opcode in (0, TEXT, BINARY_FRAME):
                    counts[0] += 1
                    counts[1] += len(payload)
                elif opcode == PING:
                    client.socket.send(frame(0x80 | PONG, payload))
                elif opcode == CLOSE:
                    counts[2] = int.from_bytes(payload[:2], "big")
            if not more:
                counts[2] = counts[2] or 0
                poll.unregister(number)
    return {name: Heard(*counts) for name, counts in found.items()}


def cast(server, work, names, *more):
    """`work` for these tokens in a process of its own, once all are in."""
    before = server.status()["clients"]
    started = Background(work, server, names, *more)
    if not eventually(lambda: server.status()["clients"] == before + len(names)):
        raise RuntimeError(f"{len(names)} clients did not get in")
    return started


def codes(heard):
    return dict(collections.Counter(one.code for one in heard.values() if one.code is not None))


# 34: refused connections

def refused(stopped, server, rate):
    """One byte that is no request, so often a second; they stay, and read nothing. How many."""
    here, begin, count = collections.deque(), time.monotonic(), 0
    while not stopped(0.001):
        while count < (time.monotonic() - begin) * rate:
            connection = dial(server)
            connection.send(b"\0")
            here.append((time.monotonic(), connection))
            count += 1
        while here and here[0][0] < time.monotonic() - 8:
            here.popleft()[1].close()
    return count


@row(34)
def lingerers(quick):
    with Server(descriptors=1024) as server:
        aftermath = Aftermath(server)
        crowd = Background(refused, server, 300, nice=5)
        time.sleep(4)
        genuine = Background(handshakes, server)
        time.sleep(3 if quick else 10)
        took, count = genuine.stop(), crowd.stop()
        yield from genuine_came_in(f"{count} connections, 300 a second, of one byte that is no request, 1024 descriptors", took)
        yield from aftermath.figures()
    with Server(limits=["clients = 100"]) as server:
        aftermath = Aftermath(server)
        inside, strangers = fleet(server, 80), []
        for _ in range(600):
            try:
                strangers.append(dial(server))
            except OSError:
                break
        genuine = Background(handshakes, server)
        time.sleep(3 if quick else 10)
        took = genuine.stop()
        yield from genuine_came_in(f"{len(strangers)} silent strangers at clients = 100, of whom 80 are open", took)
        close_all(inside + strangers)
        yield from aftermath.figures()


def genuine_came_in(what, took):
    yield is_so(f"{what}: genuine handshakes that failed, of {len(took)}", took.count(None), 0)
    yield at_most("↳ p99 of the genuine ones", percentile([s if s is not None else float("inf") for s in took], .99) * 1e3, 50, "ms")


# 35: innocents

@row(35)
def innocents(quick):
    with Server(limits=[QUEUED]) as server:
        aftermath = Aftermath(server)
        yield from one_that_pins(server, 1000)
        yield from aftermath.figures()
    with Server(limits=[QUEUED]) as server:
        aftermath = Aftermath(server)
        yield from many_that_are_behind(server, 270)
        yield from aftermath.figures()


def one_that_pins(server, rounds):
    """What waits for it is little, and spread over everything that went to the others meanwhile."""
    [slow], names = fleet(server, 1, True, tokens=["s" * 32]), tokens("r", 16)
    crowd = cast(server, readers, names)
    with server.backend() as backend:
        # Less than one message to a reader waits for it in the end: who is judged by its own bytes is not this one.
        while server.status()["queued_bytes"] == 0:
            for _ in range(10):
                backend.command("d", b"s" * 32 + b"x" * 200)
            backend.ask("p")
            time.sleep(0.01)  # what the socket takes is gone by then
        block = b"33d" + b"s" * 32 + b"x" + b"".join(b"4032D" + name.encode() + b"x" * 4000 for name in names)
        for place in range(rounds):
            backend.send(block)
            if place % 50 == 0:
                backend.ask("p")
                server.status()  # as monitoring does
        backend.ask("p")
    time.sleep(1.5)
    heard = crowd.stop()
    whole = sum(one.messages == rounds for one in heard.values())
    yield is_so(f"one that does not read, with 3 bytes in each 64 kB of {rounds * 64 // 1000} MB that went to 16 readers: readers that were closed", codes(heard), {})
    yield is_so("↳ readers that got every message", whole, 16)
    close_all([slow])


def many_that_are_behind(server, count):
    slow_names, names = tokens("s", count), tokens("r", 100)
    slow = fleet(server, count, True, tokens=slow_names)
    crowd, answers = cast(server, readers, names), collections.Counter()
    with server.backend() as backend:
        for _ in range(2):
            for name in slow_names:
                backend.command("D", name.encode() + b"x" * 255_000)
            backend.ask("p")
        for _ in range(3):
            backend.send(b"".join(b"250032c" + name.encode() + b"x" * 250_000 for name in names))
            for name in names:
                answers[name] += backend.reply()[0] == "A"
    time.sleep(1.5)
    heard = crowd.stop()
    yield is_so(f"{count} that do not read and were sent 2 × 255 kB each: of 100 readers sent 3 messages of 250 kB each, closed", codes(heard), {})
    lost = sum(max(0, answers[name] - one.messages) for name, one in heard.items())
    yield is_so("↳ messages to them answered A that did not arrive; answered A", (lost, sum(answers.values())), (0, 300))
    close_all(slow)


# 36: memory that was not counted

def grown(server, base):
    return (server.memory("VmHWM") - base) / MIB


def measured(server):
    server.forget_peak()
    return server.memory()


class WithTls(Server):
    def urls(self):
        return [*super().urls(), f"tls://127.0.0.1:{self.tls_port}"]

    def choose_ports(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.tls_port = probe.getsockname()[1]
        data = os.path.join(ROOT, "tests", "data")
        self.tables["tls"] = [f'certificate = "{data}/curve.pem"', f'key = "{data}/curve.key"']
        super().choose_ports()


@row(36)
def memory(quick):
    for what, attack, make in (
        ("30 that do not read, fed one-byte directs as fast as the server takes them", one_byte_directs, lambda: Server(limits=[QUEUED])),
        ("1,000 that send 60 kB of a message and no end", partial_messages, lambda: Server(limits=[QUEUED, *received()])),
        ("4,000 that send 8 kB of a head and no end", partial_heads, lambda: Server(limits=[QUEUED, *received(), "unauthenticated = 5000"])),
        ("1,000 that send 40 kB of a ClientHello and no end", partial_hellos, lambda: WithTls(limits=[QUEUED, *received(), "unauthenticated = 5000"])),
    ):
        with make() as server:
            aftermath = Aftermath(server)
            peak = attack(server, 4 if quick else 1)
            yield at_most(f"{what}: RSS grew at most by (limits.queued and limits.received are 16 MiB)", peak, BUDGET_MIB, "MiB")
            yield from aftermath.figures()
    with Server() as server:
        aftermath = Aftermath(server)
        base, backends = measured(server), []
        for _ in range(150):
            backend = server.backend()
            backend.socket.settimeout(1)
            backends.append(backend)
            try:
                backend.send(b"1000000b" + b"x" * 900_000)
            except OSError:
                pass
        yield at_most("150 backends that send 900 kB of a command and no end: RSS grew at most by (limits.control_total is 64 MiB)", grown(server, base), 64 * 1.1, "MiB")
        for backend in backends:
            backend.__exit__()
        yield from aftermath.figures()


def one_byte_directs(server, part):
    names = tokens("s", 30)
    slow = fleet(server, 30, True, tokens=names)
    base, block = measured(server), b"".join(b"33d" + name.encode() + b"x" for name in names) * 200
    with server.backend() as backend:
        end = time.monotonic() + 8 / part
        while time.monotonic() < end:
            backend.send(block)
        backend.ask("p")
    peak = grown(server, base)
    close_all(slow)
    return peak


def partial_messages(server, part):
    clients = fleet(server, 1000)
    base, piece = measured(server), frame(BINARY_FRAME, b"x" * 60_000)
    for client in clients:
        try:
            client.sendall(piece)
        except OSError:
            pass  # closed for it
    time.sleep(1)
    peak = grown(server, base)
    close_all(clients)
    return peak


def unfinished(server, connections, data):
    base = measured(server)
    for connection in connections:
        try:
            connection.sendall(data)
        except OSError:
            pass
    time.sleep(0.5)
    peak = grown(server, base)
    close_all(connections)
    return peak


def partial_heads(server, part):
    return unfinished(server, [dial(server) for _ in range(4000)], b"GET / HTTP/1.1\r\nX: " + b"y" * 8000)


def partial_hellos(server, part):
    connections = []
    for _ in range(1000):
        connections.append(socket.create_connection(("127.0.0.1", server.tls_port), 30))
    hello = b"\x01\x00\xff\xf0" + b"\x03\x03" + b"x" * 60_000
    records = b"".join(b"\x16\x03\x01" + len(hello[at:at + 16_000]).to_bytes(2, "big") + hello[at:at + 16_000] for at in (0, 16_000, 32_000))
    return unfinished(server, connections, records[:40_000])


# 37: backpressure

# The letter, and what stands before the payload.
ADDRESS = b"t:" + b"r" * 32 + b" "
KINDS = {"`b`": ("b", b""), "`d`": ("d", b"r" * 32), "`c`": ("c", b"r" * 32), "`w`": ("w", ADDRESS), "`x`": ("x", ADDRESS),
         "fragments of one message": ("i", b"")}


@row(37)
def backpressure(quick):
    """Who takes 20 MB a second, or all it can, is not slow: what is sent to it arrives, in whatever form."""
    size, total = 9000, 9_000_000 if quick else 36_000_000
    for pace in (20e6, None):
        for what, kind in KINDS.items():
            with Server() as server:
                reader = cast(server, readers, ["r" * 32], False, b"", pace)
                drain = Background(pipelined, server, kind, size, total // size)
                yield arrives(what, server, reader, drain, total, pace)


def pipelined(stopped, server, kind, size, count):
    """Commands without waiting for replies, which are read as they come."""
    with server.backend() as backend:
        letter, before = kind
        if letter == "i":
            backend.ask("l", b"r" * 32)
        pid = os.fork()
        if not pid:
            try:
                while backend.socket.recv(1 << 16):
                    pass
            finally:
                os._exit(0)
        backend.socket.settimeout(120)
        try:
            one = b"%d%s%s" % (len(before) + size, letter.encode(), before + b"x" * size)
            backend.send(one.replace(b"i", b"f", 1) if letter == "i" else one)
            for place in range(1, count - 1, 50):
                backend.send(one * min(50, count - 1 - place))
            backend.send(one.replace(b"i", b"s", 1) if letter == "i" else one)
            backend.command("q")
        except OSError:
            pass
        os.waitpid(pid, 0)


def arrives(what, server, reader, drain, total, pace):
    drain.wait()
    eventually(lambda: server.status()["queued_bytes"] == 0, 20)
    time.sleep(1.5)
    heard = reader.stop()["r" * 32]
    found = f"{heard.bytes / 1e6:.1f} MB, " + ("open" if heard.code is None else f"closed {heard.code}")
    holds = heard.bytes == total and heard.code is None
    whom = f"a reader of {pace / 1e6:.0f} MB/s" if pace else "a reader at full speed"
    # A client that does not keep up with broadcasts to all is closed for it, as is right.
    info = what == "`b`" and pace and not holds
    return f"{total // 1_000_000} MB of {what} in one go to {whom}: arrived", found, f"{total / 1e6:.1f} MB, open", None if info else holds


# 38: on_message = "broadcast"

@row(38)
def visitors_broadcast(quick):
    with Server(top=['on_message = "broadcast"']) as server:
        aftermath = Aftermath(server)
        crowd = cast(server, readers, tokens("r", 10))
        loud = Background(readers, server, tokens("v", 60), True, frame(0x80 | BINARY_FRAME, b"x" * 60_000))
        eventually(lambda: server.status()["messages_in"] >= 60 or server.status()["overflows"] > 0)
        eventually(lambda: server.status()["queued_bytes"] == 0, 20)
        time.sleep(1)
        heard = {**crowd.stop(), **loud.stop()}
        yield is_so("60 visitors that send 60 kB each, at once, to each other and 10 readers: closed", codes(heard), {})
        few = min(one.messages for one in heard.values())
        yield is_so("↳ messages that came to the reader with the fewest", few, 60)
        yield from aftermath.figures()
