"""The traffic of the soak: one process, one loop. For a `busy` of some seconds it does all it can do at fixed rates,
lets everything come to an end but the readers, and tells what it has counted.
"""
import collections
import heapq
import random
import secrets
import select
import socket
import time

from browsers import RESET, Browser, Reader, message
from rig.peers import frame
from rig.server import head

# This many a second, while busy. A reader's token may have two connections.
READERS, TOKENS = 200, 150
LIFETIME_S = 86400
# Connections that the server itself closes within this time are waited for after the busy time; then the client vanishes.
PATIENCE_S = 8


class World:
    def __init__(self, server, seed):
        self.server, self.dice = server, random.Random(seed)
        self.poll, self.here, self.timers, self.order = select.epoll(), {}, [], 0
        self.broadcasts, self.directs, self.streams = 0, collections.Counter(), 0
        self.deliveries, self.done, self.faults, self.examples = 0, collections.Counter(), collections.Counter(), []
        self.tokens = [secrets.token_hex(16) for _ in range(TOKENS)]
        self.back = None
        self.rates = {
            self.broadcast: 10, self.direct: 100, self.confirm: 50, self.echo: 200, self.lock_whole: 5, self.lock_idle: 1,
            self.lock_broken: 1, self.churn: 110, self.refused: 10, self.half_head: 8, self.slow: 0.5, self.silent: 1,
            self.expired: 2, self.visit: 5, self.comes_again: 2,
        }

    def fault(self, kind, what):
        self.faults[kind] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{kind}: {what}")

    # The loop.

    def add(self, browser):
        self.here[browser.socket.fileno()] = browser
        self.poll.register(browser.socket, select.EPOLLIN)

    def drop(self, browser):
        self.poll.unregister(browser.socket)
        del self.here[browser.socket.fileno()]

    def later(self, seconds, action):
        self.order += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.order, action))

    def run(self, until, done=lambda: False):
        """Serves the connections until the moment, or until `done`; true when it was done."""
        while (now := time.monotonic()) < until:
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2]()
            if done():
                return True
            pause = min(until, self.timers[0][0] if self.timers else until, now + 0.05) - now
            for number, _ in self.poll.poll(max(0, pause)):
                if browser := self.here.get(number):
                    browser.readable()
        return done()

    def repeat(self, action, rate, until):
        def again():
            if time.monotonic() < until:
                action()
                self.later(self.dice.expovariate(rate), again)
        self.later(self.dice.expovariate(rate), again)

    def readers(self):
        return [one for one in self.here.values() if isinstance(one, Reader)]

    def settled(self):
        return [one for one in self.readers() if one.is_open and not one.leaving]

    def guests(self):
        return [one for one in self.here.values() if not isinstance(one, Reader)]

    def fill(self):
        """As many readers as there are to be, all let in."""
        used = collections.Counter(one.token for one in self.readers())
        while len(self.readers()) < READERS:
            token = min(self.tokens, key=lambda token: used[token])
            used[token] += 1
            Reader(self, token, shallow=self.dice.random() < 0.3)
        if not self.run(time.monotonic() + PATIENCE_S, lambda: all(one.is_open for one in self.readers())):
            self.fault("unexpected", "readers are not let in")

    def busy(self, seconds):
        self.back = self.server.backend()
        until = time.monotonic() + seconds
        for action, rate in self.rates.items():
            self.repeat(action, rate, until)
        self.run(until)
        self.calm()
        return self.tally()

    def calm(self):
        """No more is begun: everything comes to its end, and the readers have all that is theirs."""
        self.back.command("q")
        while self.back.reply():
            pass
        self.back.file.close()
        self.back.socket.close()
        end = time.monotonic() + PATIENCE_S
        gone = lambda: not self.guests() and not any(one.leaving for one in self.readers())
        self.run(end, gone)
        for guest in self.guests():
            self.done["vanished at the end"] += 1
            guest.leave(reset=True)
        self.fill()
        self.run(time.monotonic() + PATIENCE_S, lambda: not any(any(one.missing()) for one in self.readers()))
        for one in self.readers():
            if any(one.missing()):
                self.fault("lost" if min(one.missing()) >= 0 else "duplicate", f"broadcasts, directs, echoes: {one.missing()}")
            one.last = {key: last for key, last in one.last.items() if key[0] == b"e" or key[1] == 0}

    def tally(self):
        return {
            "deliveries": self.deliveries, "done": dict(self.done), "faults": dict(self.faults), "examples": self.examples,
            "readers": len(self.readers()),
        }

    # What is done.

    def filler(self):
        size = self.dice.choice([0, 10, 100, 100, 1000]) if self.dice.random() < 0.97 else 20_000
        return b"s" * size

    def count(self, what):
        self.done[what] += 1

    def broadcast(self):
        self.back.command("b", message(b"b", 0, self.broadcasts, self.filler()))
        self.broadcasts += 1
        self.count("broadcasts")

    def send_direct(self, token):
        data = token.encode() + message(b"d", 0, self.directs[token], self.filler())
        self.directs[token] += 1
        return data

    def direct(self):
        if some := self.settled():
            self.back.command("d", self.send_direct(self.dice.choice(some).token))
            self.count("directs d")

    def confirm(self):
        if some := self.settled():
            token = self.dice.choice(some).token
            self.answer(self.back, "A", "c", self.send_direct(token))
            self.count("directs c")

    def answer(self, backend, wanted, letter, payload):
        reply = backend.ask(letter, payload)
        while reply and reply[0] == "p":
            backend.command("P")
            reply = backend.reply()
        if not reply or reply[0] not in wanted:
            self.fault("unexpected", f"{letter} was answered by {reply}, not {wanted}")
        return reply and reply[0]

    def echo(self):
        if some := self.settled():
            self.dice.choice(some).echo(self.filler())
            self.count("echoes")

    # Locks.

    def lock_whole(self):
        if not (some := self.settled()):
            return
        data = message(b"l", self.new_stream(), 0, self.filler() + b"end")
        cut = len(data) // 3
        token = self.dice.choice(some).token
        self.answer(self.back, "A", "l", token.encode())
        self.answer(self.back, "a", "f", data[:cut])
        # Both are held behind the lock.
        self.back.command("d", self.send_direct(token))
        self.broadcast()
        self.answer(self.back, "a", "i", data[cut:2 * cut])
        self.answer(self.back, "a", "s", data[2 * cut:])
        self.count("locks, whole")

    def lock_idle(self):
        if some := self.settled():
            with self.server.backend() as backend:
                self.answer(backend, "AN", "l", self.dice.choice(some).token.encode())
            self.count("locks without a message")

    def lock_broken(self):
        def begin(victim):
            with self.server.backend() as backend:
                self.answer(backend, "A", "l", victim.token.encode())
                self.answer(backend, "a", "f", b"half a mess")
                if self.dice.random() < 0.5:
                    backend.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        Browser(self, secrets.token_hex(16), wanted=(1011,), then=begin)
        self.count("backends that died within a message")

    def new_stream(self):
        self.streams += 1
        return self.streams

    # Clients that come and go.

    def shallow(self):
        return self.dice.random() < 0.5

    def churn(self):
        how = self.dice.choice(["closed", "closed", "closed", "reset", "ended"])

        def leave(guest):
            if self.dice.random() < 0.3:
                guest.send(frame(0x81, message(b"e", 0, 0, self.filler())))
            action = {"closed": guest.bid_farewell, "reset": lambda: guest.leave(True), "ended": guest.leave}[how]
            self.later(self.dice.choice([0, 0, 0.05, 0.5]), lambda: guest.socket and action())
        # Tokens that come again, but not those of readers, whose connections are counted.
        Browser(self, f"{self.dice.randrange(5000):032d}", self.shallow(), then=leave)
        self.count(f"clients that logged in and {how}")

    def refused(self):
        token, now = secrets.token_hex(16), int(time.time())
        opening = self.dice.choice([
            head(token).replace(b"digest=", b"digest=0"), head(token, now - LIFETIME_S - 10), head(token, now + 10_000),
            head(token).replace(b"Origin: https://", b"Origin: https://evil-"), head(token).replace(b"\r\nHost", b"\nHost"),
        ])
        Browser(self, shallow=self.shallow(), opening=opening, wanted=(400, 403))
        self.count("refused logins")

    def half_head(self):
        whole = head()
        guest = Browser(self, shallow=self.shallow(), opening=whole[:self.dice.randrange(len(whole) - 1)], wanted=(408,))
        if self.dice.random() < 0.8:
            self.later(self.dice.random(), lambda: guest.leave(self.shallow()))
        self.count("unfinished handshakes")

    def slow(self):
        def feed(guest):
            self.poll.modify(guest.socket, 0)
            with self.server.backend() as backend:
                for number in range(100):
                    if self.answer(backend, "AN", "c", guest.token.encode() + message(b"d", 0, number, b"s" * 16_000)) != "A":
                        self.count("slow readers, closed for it")
                        break
            # Well within `timeouts.close`: other slow readers, each of which a backend waits for, may be fed meanwhile.
            self.later(0.1, lambda: guest.socket and self.poll.modify(guest.socket, select.EPOLLIN))
        Browser(self, secrets.token_hex(16), shallow=True, wanted=(1013,), then=feed)

    def silent(self):
        guest = Browser(self, secrets.token_hex(16), self.shallow(), wanted=(None,))
        guest.answers = False
        self.count("silent clients")

    def expired(self):
        issued = int(time.time()) - LIFETIME_S + 3
        token = secrets.token_hex(16)
        Browser(self, token, self.shallow(), opening=head(token, issued), wanted=(1000,))
        self.count("logins that expired")

    def comes_again(self):
        if len(some := self.settled()) < READERS - 20:
            return
        self.dice.choice(some).go()
        self.later(0.5, lambda: Reader(self, self.dice.choice(self.vacant()), self.shallow()))
        self.count("readers that came again")

    def vacant(self):
        used = collections.Counter(one.token for one in self.readers())
        return [token for token in self.tokens if used[token] < 3]

    # Backends that come and go.

    def visit(self):
        stream = self.new_stream()
        with self.server.backend() as backend:
            how = self.dice.choice(["quit", "end", "reset", "error", "error"])
            backend.socket.sendall(b"".join(
                b"%db%s" % (len(data), data) for data in (message(b"x", stream, number, b"v" * 50) for number in range(3))))
            if how == "error":
                backend.socket.sendall(self.dice.choice([b"GET / HTTP/1.1\r\n", b"2b\xff\xfe", b"9999999999b", b"1l2"]))
            if how in ("error", "quit"):
                backend.socket.sendall(b"" if how == "error" else b"0p0q")
                found = ""
                while reply := backend.reply():
                    found += reply[0]
                if found != {"error": "E", "quit": "P"}[how]:
                    self.fault("unexpected", f"a backend that ends by {how} got {found!r}")
            if how == "reset":
                backend.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.count("backends that came and went")


def play(pipe, server, seed):
    """The process: follows its leader until the pipe ends."""
    world = World(server, seed)
    world.fill()
    pipe.send(world.tally())
    while True:
        # The readers answer pings meanwhile.
        world.run(float("inf"), lambda: pipe.poll(0))
        try:
            seconds = pipe.recv()
        except EOFError:
            return
        pipe.send(world.busy(seconds))
