"""Rows 7, 9 and 10: who is silent, who does not read, who does not stop."""
import os
import select
import signal
import time

from rig.peers import BINARY, TEXT, Background, Client, black_hole, broadcasts, close_all, directs, fleet, frame, listeners, percentile
from report import Aftermath, at_most, row
from rig.server import MIB, Server, eventually



# 7: dead peers

def sit(stopped, server, tokens):
    """Open clients that do nothing; the caller stops the process."""
    clients = [Client(server, token) for token in tokens]
    while not stopped(1):
        pass
    return len(clients)


@row(7)
def dead_peers(quick):
    """All kinds at once, ten of each: the times are what they are, 30 s, also when in a hurry."""
    timeouts = ["idle = 1.5", "pong = 1.5", "stalled = 1.5"] if quick else []
    bound_s = 3.2 if quick else 32
    with Server(timeouts=timeouts) as server:
        aftermath = Aftermath(server)
        kinds = {
            "processes that are stopped (SIGSTOP), nothing to send": "s",
            "black holes (no packet arrives), nothing to send": "b",
            "black holes with a message each second": "m",
            "readers that stopped (Unix sockets) with 600 kB waiting for each": "r",
        }
        tokens = {letter: [f"{letter}{place:031d}" for place in range(10)] for letter in kinds.values()}
        stopped = Background(sit, server, tokens["s"])
        holes = [Client(server, token) for token in tokens["b"] + tokens["m"]]
        readers = [Client(server, token, True) for token in tokens["r"]]
        everyone = sum(tokens.values(), [])
        eventually(lambda: server.status()["clients"] == len(everyone))
        os.kill(stopped.process.pid, signal.SIGSTOP)
        for client in holes:
            black_hole(client.socket)
        gone = watch(server, everyone, tokens["m"], tokens["r"], bound_s + 10)
        for what, letter in kinds.items():
            times = [gone.get(token, float("inf")) for token in tokens[letter]]
            yield f"10 {what}: gone after", f"{min(times):.1f} to {max(times):.1f} s", f"≤ {bound_s} s", max(times) <= bound_s
        os.kill(stopped.process.pid, signal.SIGKILL)
        stopped.process.join()
        for client in holes + readers:
            client.socket.close()
        yield from aftermath.figures()


def watch(server, tokens, fed, filled, patience_s):
    """When each token was no longer there. An empty `c` asks without sending anything."""
    begin, gone, next_feed = time.monotonic(), {}, 0
    with server.backend() as backend:
        for token in filled:
            for _ in range(12):
                backend.command("D", token.encode() + b"x" * 50_000)
        while len(gone) < len(tokens) and time.monotonic() < begin + patience_s:
            now = time.monotonic() - begin
            if now >= next_feed:
                next_feed += 1
                backend.socket.sendall(b"".join(b"1032d" + token.encode() + b"x" * 1000 for token in fed))
            backend.socket.sendall(b"".join(b"32c" + token.encode() for token in tokens))
            for token in tokens:
                if backend.reply()[0] == "N":
                    gone.setdefault(token, now)
            time.sleep(0.05)
    return gone


# 9: slow consumers

def slow_ones(stopped, server, count):
    """They connect, never read, and come again when they are cut off. How often that was."""
    cut, poll = 0, select.epoll()
    clients = {client.fileno(): client for client in fleet(server, count, True)}
    for client in clients.values():
        poll.register(client, select.EPOLLHUP | select.EPOLLRDHUP)
    while not stopped():
        for number, _ in poll.poll(0.05):
            clients.pop(number).close()
            cut += 1
            again = fleet(server, 1, True)[0]
            clients[again.fileno()] = again
            poll.register(again, select.EPOLLHUP | select.EPOLLRDHUP)
    close_all(clients.values())
    return cut


def good_ones(stopped, server, count):
    """As many as the slow, on the same kind of sockets; they read."""
    poll, clients, buffer = select.epoll(), {client.fileno(): client for client in fleet(server, count, True)}, bytearray(1 << 18)
    for client in clients.values():
        client.setblocking(False)
        poll.register(client, select.EPOLLIN)
    while not stopped():
        for number, _ in poll.poll(0.05):
            clients[number].recv_into(buffer)
    close_all(clients.values())


def heard(server, size, pause_s, seconds):
    """p99 in ms of broadcasts at twenty clients that read, and how many arrivals that is."""
    ears = Background(listeners, server, 20)
    voice = Background(broadcasts, server, size, pause_s)
    time.sleep(seconds)
    voice.stop()
    took = ears.stop()
    return percentile(took, .99) * 1e3, len(took)


@row(9)
def slow_consumers(quick):
    for count in (1, 100) if quick else (1, 1000):
        with Server(limits=["queued = \"64 MiB\""]) as server:
            aftermath = Aftermath(server)
            yield from fed_by_broadcast(server, count, 3 if quick else 8, 16_000, 0.02)
            yield from aftermath.figures()
    with Server(limits=["queued = \"64 MiB\""]) as server:
        aftermath = Aftermath(server)
        yield from fed_by_broadcast(server, 100 if quick else 1000, 3 if quick else 8, 40, 0.002)
        yield from aftermath.figures()
    # Together eight times the limit, in large messages and in small ones, of which each takes more than its bytes.
    for count, size, times in ((100 if quick else 500, 65_000, 16), (100, 20, 25_000 if quick else 40_000)):
        with Server(limits=["queued = \"64 MiB\""]) as server:
            aftermath = Aftermath(server)
            yield from fed_directly(server, count, size, times)
            yield from aftermath.figures()


def fed_by_broadcast(server, count, seconds, size, pause_s):
    rounds = 5
    server.forget_peak()
    base = server.memory()
    alone, calm, disturbed, cut = [], [], [], 0
    for _ in range(rounds):
        alone.append(heard(server, size, pause_s, seconds / 2)[0])
        good = among(server, count, good_ones)
        calm.append(heard(server, size, pause_s, seconds / 2)[0])
        leave(server, good)
        slow = among(server, count, slow_ones)
        disturbed.append(heard(server, size, pause_s, seconds)[0])
        cut += leave(server, slow)
    # What the machine does beside only ever adds: the quietest round of each is what is the server's.
    alone_ms, calm_ms, disturbed_ms = (min(times) for times in (alone, calm, disturbed))
    what = f"{count} that do{'es' if count == 1 else ''} not read, fed by broadcast ({1 / pause_s:.0f} a second of {size:,} bytes), come again when cut off ({cut} times)"
    yield (f"{what}: p99 of 20 that read, in the quietest of {rounds} rounds, {disturbed_ms:.2f} ms against {calm_ms:.2f} ms when the {count} read as well",
           f"{disturbed_ms / calm_ms:.2f} ×", "≤ 2 ×", disturbed_ms <= 2 * calm_ms)
    yield f"↳ the same against the 20 alone on the server, {alone_ms:.2f} ms", f"{disturbed_ms / alone_ms:.2f} ×", "none: a broadcast to more takes longer", None
    peak = (server.memory("VmHWM") - base) / MIB
    yield at_most("↳ RSS grew at most by (limits.queued is 64 MiB)", peak, 64 * 1.1, "MiB")


def among(server, count, work):
    crowd = Background(work, server, count, nice=5)
    if not eventually(lambda: server.status()["clients"] >= count):
        raise RuntimeError(f"{count} clients did not get in")
    return crowd


def leave(server, crowd):
    found = crowd.stop()
    eventually(lambda: server.status()["clients"] == 0)
    return found


def fed_directly(server, count, size, times):
    """Nothing is shared: each has a backlog of its own."""
    tokens = [f"q{place:031d}" for place in range(count)]
    server.forget_peak()
    base = server.memory()
    slow = fleet(server, count, True, tokens=tokens)
    took = Background(directs, server)
    with server.backend() as backend:
        block = b"".join(b"%dD%s%s" % (32 + size, token.encode(), b"x" * size) for token in tokens)
        for _ in range(times):
            backend.send(block)
        backend.ask("p")
    waits = took.stop()
    status = server.status()
    peak = (server.memory("VmHWM") - base) / MIB
    what = f"{count} that do not read, each sent {times:,} messages of {size:,} bytes of its own ({status['overflows']} closed with 1013)"
    yield at_most(f"{what}: RSS grew at most by (limits.queued is 64 MiB)", peak, 64 * 1.1, "MiB")
    yield at_most("↳ p99 of a direct message and a pong to another client meanwhile", percentile(waits, .99) * 1e3, 10, "ms")
    close_all(slow)


# 10: floods

def client_flood(stopped, server, data, reads):
    """Sends as fast as the server takes it; bytes sent."""
    sent = 0
    with Client(server) as client:
        client.socket.setblocking(False)
        while not stopped():
            readable, writable, _ = select.select([client.socket] if reads else [], [client.socket], [], 0.1)
            if readable:
                client.socket.recv(1 << 20)
            if writable:
                at = sent % len(data)
                sent += client.socket.send(memoryview(data)[at:])
    return sent


def backend_flood(stopped, server, data):
    """Sends commands as fast as the server takes them, and reads the replies; bytes sent."""
    sent = 0
    with server.backend() as backend:
        backend.socket.setblocking(False)
        while not stopped():
            readable, writable, _ = select.select([backend.socket], [backend.socket], [], 0.1)
            if readable:
                backend.socket.recv(1 << 20)
            if writable:
                at = sent % len(data)
                sent += backend.socket.send(memoryview(data)[at:])
    return sent


@row(10)
def floods(quick):
    texts = frame(0x80 | TEXT, b"hello, hello!") * 10_000
    large = frame(0x80 | BINARY, b"x" * 60_000) * 10
    pings = frame(0x89, b"p" * 125) * 1000
    lookups = (b"45c" + b"n" * 32 + b"hello, hello!") * 10_000
    kinds = [
        ("nobody", []),
        ("a client with small texts", [(client_flood, texts, False)]),
        ("a client with messages of 60 kB", [(client_flood, large, False)]),
        ("a client with pings", [(client_flood, pings, True)]),
        ("a backend with `c`", [(backend_flood, lookups)]),
        ("a backend with `t`", [(backend_flood, b"0t" * 1000)]),
        ("both, texts and `c`", [(client_flood, texts, False), (backend_flood, lookups)]),
    ]
    with Server() as server:
        aftermath = Aftermath(server)
        for who, works in kinds:
            times, taken = under_flood(server, works, 1 if quick else 4)
            what = f"flood from {who} ({taken}): p99 of {len(times)} direct messages and pongs of another"
            yield at_most(what, percentile(times, .99) * 1e3, 10, "ms")
            yield from aftermath.figures()


def under_flood(server, works, seconds):
    """What a probe measured meanwhile, and what the server did in a second of it, in its own words."""
    flood = [Background(work, server, *more, nice=5) for work, *more in works]
    probe, before, cpu = Background(directs, server), server.status(), server.cpu_s()
    begin = time.monotonic()
    time.sleep(seconds)
    took, cpu, after = time.monotonic() - begin, server.cpu_s() - cpu, server.status()
    times = probe.stop()
    for one in flood:
        one.stop()
    a_second = {name: (after[name] - before[name]) / took for name in ("messages_in", "directs", "bytes_in")}
    if works and after["closed"] != before["closed"]:
        raise RuntimeError(f"the flooder was closed: {after['closed']}")
    taken = f"{a_second['messages_in']:.2g} messages, {a_second['bytes_in'] / 1e6:.3g} MB, {a_second['directs']:.2g} directs a second"
    return times, f"{taken}; CPU {100 * cpu / took:.0f} %"
