"""Row 32: group bombs. A group that dissolves at once, as many groups as there may be, a connection in too many of them.

A backend or a crowd of clients makes and ends memberships as fast as the server lets them, and somebody else's messages
are timed meanwhile.
"""
import json
import time

from report import Aftermath, at_most, is_so, row
from rig.peers import Background, close_all, directs, fleet, percentile
from rig.server import Server, eventually

GROUPS_OF_ONE = 64  # limits.groups_per_connection


def names(letter, count):
    return ",".join(f"{letter}{place}" for place in range(count)).encode()


def joined(backend, letter, groups, addresses):
    """How many connections have joined or left, as the server says, or what was wrong."""
    answer = json.loads(backend.ask(letter, groups + b" " + addresses)[1])
    return answer.get("error") or answer["connections"]


def timed(server, work, seconds):
    """What a probe measured while `work(backend)` was done over and over; at least once, and how often."""
    probe, rounds = Background(directs, server), 0
    eventually(lambda: server.status()["clients"] > 0)
    end = time.monotonic() + seconds
    with server.backend() as backend:
        backend.socket.settimeout(60)
        while rounds == 0 or time.monotonic() < end:
            work(backend)
            rounds += 1
    return probe.stop(), rounds


def waits(what, took):
    yield at_most(f"{what}: p99 of {len(took)} direct messages and pongs of another", percentile(took, .99) * 1e3, 10, "ms")
    yield "↳ the worst of them", f"{max(took) * 1e3:.3g} ms", "none: the machine may take the processor away", None


@row(32)
def group_bombs(quick):
    seconds, count = (1, 2000) if quick else (4, 2000)
    with Server() as server:
        aftermath = Aftermath(server)
        yield from dissolving(server, count, 10, seconds)
        yield from dissolving(server, count, 50, seconds)
        yield from aftermath.figures()
    with Server() as server:
        aftermath = Aftermath(server)
        yield from cut_off(server, count, 3 if quick else 10)
        yield from aftermath.figures()
    with Server() as server:
        aftermath = Aftermath(server)
        yield from groups_of_one(server, 20_000 if quick else 100_000, seconds)
        yield from aftermath.figures()


def dissolving(server, count, each, seconds):
    """So many groups of all, made and ended by one command each, without a pause."""
    crowd, groups = fleet(server, count), names("room", each)

    def work(backend):
        for letter in "jJ":
            if joined(backend, letter, groups, b"*,-t:" + b"d" * 32) != count:
                raise RuntimeError(f"{letter} did not reach all")
    took, rounds = timed(server, work, seconds)
    yield from waits(f"{each} groups of {count} that form and dissolve at once, {each * count} memberships by one `j`, one `J`, {rounds} times", took)
    yield is_so("↳ groups left", server.status()["groups"], 0)
    close_all(crowd)


def cut_off(server, count, times):
    """The members go without a word, all in the same moment."""
    groups, took, left = names("room", 10), [], 0
    for _ in range(times):
        # Within the work: a process that is forked after it would keep the connections open.
        def work(backend):
            crowd = fleet(server, count)
            joined(backend, "j", groups, b"*,-t:" + b"d" * 32)
            close_all(crowd)
            eventually(lambda: server.status()["clients"] == 1, pause_s=0.02)
        took += timed(server, work, 0)[0]
        left += server.status()["groups"]
    yield from waits(f"{count} connections, {10 * count} memberships in 10 groups, cut off in one moment, {times} times", took)
    yield is_so("↳ groups left", left, 0)


def groups_of_one(server, count, seconds):
    """As many groups as there may be, each with one member; then one more."""
    tokens = [f"g{place:031d}".encode() for place in range(-(-count // GROUPS_OF_ONE) + 1)]
    crowd = fleet(server, len(tokens), tokens=[token.decode() for token in tokens])
    lists = [names(f"one{place}-", GROUPS_OF_ONE) for place in range(len(tokens))]
    lists[-2] = names("last-", count - GROUPS_OF_ONE * (len(tokens) - 2))
    commands = {}
    for letter in b"jJ":
        payloads = [groups + b" t:" + token for groups, token in zip(lists[:-1], tokens)]
        commands[letter] = b"".join(b"%d%c%s" % (len(payload), letter, payload) for payload in payloads)
    most = []

    def work(backend):
        for letter in b"jJ":
            # In pieces, so that the replies are read in time.
            send_all(backend, commands[letter], len(tokens) - 1)
            most.append(server.status()["groups"])
    took, rounds = timed(server, work, seconds)
    yield from waits(f"{count} groups of one, made by `j` and ended by `J`, {rounds} times", took)
    yield is_so("↳ groups then, and afterwards", (max(most), min(most)), (count, 0))
    with server.backend() as backend:
        too_many = names("x", GROUPS_OF_ONE + 1)
        yield is_so("a connection that is told to join a group too many: in how many it is",
                    (joined(backend, "j", too_many, b"t:" + tokens[-1]), server.status()["groups"]),
                    ("the connection is in as many groups as limits.groups_per_connection allows", GROUPS_OF_ONE))
        joined(backend, "J", too_many, b"t:" + tokens[-1])
        if count == 100_000:
            send_all(backend, commands[ord("j")], len(tokens) - 1)
            yield is_so("one group more than limits.groups", (joined(backend, "j", b"more", b"t:" + tokens[-1]), server.status()["groups"]),
                        ("there are as many groups as limits.groups allows", count))
    close_all(crowd)


def send_all(backend, commands, replies):
    writer = Background(lambda stopped: backend.send(commands))
    for _ in range(replies):
        backend.reply()
    writer.wait()
