"""The server whose system calls fail, and the people on its stage: clients that stay (the witnesses), and a play
that comes and goes, in which every kind of connection has its part.

Everybody is patient with a fault: who hears nothing asks again, as a user or the next event would. A system call that
is made to say EAGAIN although it could have gone through leaves no event behind; the kernel never does that.
"""
import json
import os
import pwd
import socket
import ssl
import struct
import time

from rig.peers import BINARY, CLOSE, PING, PONG, TEXT, frame, take_frame
from rig.server import ROOT, ORIGIN, Server, eventually, free_port, head

# How long a peer waits before asking again, and how often.
PAUSE_S = 0.1
TRIES = 8
BIG = 90_000  # three of them are more than a Unix socket holds
DATA = os.path.join(ROOT, "tests", "data")


class Gone(Exception):
    """The connection ended, or says nothing whatever is asked."""


class Stage(Server):
    """A server with a listener of each kind. `user`: becomes it, when started as root."""

    idle_s = 1

    def __init__(self, user=None, **more):
        super().__init__(top=['on_message = "echo"'] + ([f'user = "{user}"'] if user else []), **more)
        self.user, self.more_timeouts = user, ()

    def choose_ports(self):
        self.tls_port = free_port()
        super().choose_ports()

    def urls(self):
        return [*super().urls(), f"tls://127.0.0.1:{self.tls_port}"]

    def write_config(self, mode=0o600):
        # Short, so that a connection whose end was hidden from the server by a fault is found out soon.
        short = ["drain = 2", f"idle = {self.idle_s}", "pong = 2", "control = 1", "close = 1", "handshake = 2"]
        self.tables = {
            "timeouts": [*short, *self.more_timeouts],
            "tls": [f'certificate = "{DATA}/curve.pem"', f'key = "{DATA}/curve.key"'],
        }
        super().write_config(mode)
        if self.user:
            entry = pwd.getpwnam(self.user)
            for path in (self.folder, self.config):  # which it reads again when it is that user
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def status(self):
        try:
            backend = BackendPeer(self)
            try:
                return json.loads(backend.ask("t", b"", "T")[1])
            finally:
                backend.close()
        except Gone as gone:
            raise OSError(str(gone)) from gone

    def said(self):
        """What is on standard error."""
        with open(self.at("stderr"), errors="replace") as file:
            return file.read().strip()

    def leftovers(self):
        """Files that a server must not leave behind."""
        return sorted(set(os.listdir(self.folder)) & {"pid", "control.sock", "server.sock"})

    def knock(self):
        """An event for every listener."""
        for address in (("127.0.0.1", self.port), ("127.0.0.1", self.tls_port), self.local, self.control_path):
            with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as knocker:
                knocker.settimeout(1)
                try:
                    knocker.connect(address)
                except OSError:
                    pass


def connect(stage, kind, small=False):
    connection = socket.socket(socket.AF_INET if kind in ("tcp", "tls") else socket.AF_UNIX)
    connection.settimeout(PAUSE_S)
    for _ in range(TRIES):
        try:
            if kind in ("tcp", "tls"):
                connection.connect(("127.0.0.1", stage.port if kind == "tcp" else stage.tls_port))
            else:
                connection.connect(stage.local if kind == "unix" else stage.control_path)
            return connection
        except (BlockingIOError, TimeoutError):
            time.sleep(PAUSE_S)
        except OSError as error:
            raise Gone(f"connect: {error}") from error
    raise Gone("connect: no room")


class Peer:
    """One connection with what has come in and is not read yet."""

    def __init__(self, stage, kind):
        self.stage, self.kind, self.input = stage, kind, bytearray()
        self.socket = connect(stage, kind)
        if kind == "tls":
            self.encrypt()

    def encrypt(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket, do_handshake_on_connect=False)
        for _ in range(TRIES):
            try:
                return self.socket.do_handshake()
            except TimeoutError:
                self.stage.knock()
            except OSError as error:
                raise Gone(f"TLS: {error}") from error
        raise Gone("TLS: silence")

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(f"send: {error}") from error

    def poke(self):
        raise NotImplementedError

    def more(self):
        """Reads once; False when nothing came in time."""
        try:
            data = self.socket.recv(1 << 18)
        except TimeoutError:
            return False
        except OSError as error:
            raise Gone(f"receive: {error}") from error
        if not data:
            raise Gone("receive: the end")
        self.input += data
        return True

    def until(self, found, what):
        """Waits until `found` finds something; a peer that waits in vain asks."""
        silent = 0
        while (result := found()) is None:
            if self.more():
                continue
            silent += 1
            if silent > TRIES:
                raise Gone(f"{what}: silence")
            self.stage.knock()
            self.poke()
        return result

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Client(Peer):
    """A browser."""

    def __init__(self, stage, kind="tcp", token=None, more=""):
        self.pings, self.answer = 0, None
        super().__init__(stage, kind)
        self.send(head(token, more=more))
        self.answer = self.until(self.take_head, "handshake")

    def take_head(self):
        end = self.input.find(b"\r\n\r\n")
        if end < 0:
            return None
        answer = bytes(self.input[:end + 4])
        del self.input[:end + 4]
        return answer

    def poke(self):
        """A ping. What follows the request in the same breath is a frame as well."""
        self.send(frame(0x80 | PING, b"poke"))

    def take(self):
        """The next frame that is here whole."""
        found = take_frame(self.input)
        if found and found[0] == PING:
            self.send(frame(0x80 | PONG, found[1]))
        return found

    def stay(self):
        """Answers what has come in."""
        self.socket.settimeout(0.001)
        while self.more():
            pass
        self.socket.settimeout(PAUSE_S)
        while self.take() is not None:
            pass

    def wait_for(self, opcode, payload, what):
        def found():
            while (message := self.take()) is not None:
                if message[0] == opcode and message[1].startswith(payload):
                    return message[1]
            return None
        return self.until(found, what)

    def ask(self):
        """Whether the server is there for this client."""
        self.pings += 1
        name = b"ping %d" % self.pings
        self.send(frame(0x80 | PING, name))
        self.wait_for(PONG, name, "pong")

    def until_closed(self):
        """The server's goodbye, answered."""
        self.wait_for(CLOSE, b"\x03\xe9", "1001")
        try:
            self.send(frame(0x80 | CLOSE, b"\x03\xe9"))
        except Gone:
            pass  # it has said all that it had to say

    def leave(self):
        self.send(frame(0x80 | CLOSE, b"\x03\xe8"))
        self.wait_for(CLOSE, b"\x03\xe8", "close")
        self.close()


class BackendPeer(Peer):
    """A program of the site."""

    def __init__(self, stage):
        super().__init__(stage, "control")

    def poke(self):
        self.send(b"0p")

    def command(self, letter, payload=b""):
        self.send(b"%d%s%s" % (len(payload), letter.encode(), payload))

    def take(self):
        digits = 0
        while self.input[digits:digits + 1].isdigit():
            digits += 1
        end = digits + 1 + int(self.input[:digits] or 0)
        if len(self.input) <= digits or len(self.input) < end:
            return None
        found = chr(self.input[digits]), bytes(self.input[digits + 1:end])
        del self.input[:end]
        return found

    def ask(self, letter, payload, wanted):
        self.command(letter, payload)
        def found():
            while (reply := self.take()) is not None:
                if reply[0] in wanted:
                    return reply
            return None
        return self.until(found, f"reply to {letter}")


class Play:
    """What happens on the stage. Counts the connections that were lost against their will."""

    def __init__(self, stage, tls=True):
        self.stage, self.lost, self.round, self.tls = stage, [], 0, tls
        self.witnesses = {}
        self.fill()

    def fill(self):
        """Every kind of client that stays: one that reads slowly, and one for each transport."""
        for name, kind in (("tcp", "tcp"), ("unix", "unix"), ("tls", "tls"), ("slow", "unix")):
            if name not in self.witnesses and (self.tls or kind != "tls"):
                token = (name[0] * 32)
                self.witnesses[name] = Client(self.stage, kind, token)

    def part(self, name, play):
        """One part of the play; its player may be lost."""
        try:
            return play()
        except Gone as gone:
            self.lost.append(f"{name}: {gone}")
            return None

    def act(self):
        self.round += 1
        guest = self.part("guest", lambda: Client(self.stage, "tcp"))
        self.part("refused", self.refused)
        told = self.part("backend", self.backend)
        for name in ("tcp", "unix", "tls", "slow"):
            # A backend that was lost may have said nothing.
            self.witness(name, self.hear if told else Client.ask)
        self.part("worker", self.worker)
        if guest:
            self.part("guest", lambda: self.visit(guest))
        if self.tls:
            self.part("TLS guest", lambda: self.visit(Client(self.stage, "tls")))
        self.part("reset", lambda: Client(self.stage, "tcp").reset())

    def hear(self, client):
        client.wait_for(BINARY, b"big %d" % self.round, "broadcast")

    def witness(self, name, do):
        client = self.witnesses.get(name)
        if client is None:
            return
        try:
            do(client)
        except Gone as gone:
            self.lost.append(f"{name}: {gone}")
            self.witnesses.pop(name).close()

    def refused(self):
        with_wrong_origin = Client.__new__(Client)
        with_wrong_origin.pings = 0
        Peer.__init__(with_wrong_origin, self.stage, "tcp")
        with_wrong_origin.send(head().replace(ORIGIN.encode(), b"https://evil.example"))
        try:
            answer = with_wrong_origin.until(with_wrong_origin.take_head, "refusal")
        finally:
            with_wrong_origin.close()
        if not answer.startswith(b"HTTP/1.1 403"):
            raise Gone(f"refusal: {answer!r}")

    def backend(self):
        backend = BackendPeer(self.stage)
        try:
            backend.ask("c", b"t" * 32 + b"direct", "AN")
            backend.ask("l", b"u" * 32, "AN")
            backend.ask("f", b"first", "an")
            backend.ask("s", b"last", "an")
            # In one breath, with something for one client in between: the bytes that wait for that one have a gap.
            one, two = (b"%d%s%s" % (len(text), letter, text) for letter, text in ((b"b", b"one"), (b"d", b"t" * 32 + b"two")))
            backend.send(one + two + one)
            for _ in range(3):
                backend.command("B", (b"big %d " % self.round).ljust(BIG, b"."))
            backend.ask("t", b"", "T")
            backend.command("q")
            return True
        finally:
            backend.close()

    def worker(self):
        """It is told who comes and goes. What one has not confirmed when its connection breaks is told to the next."""
        worker, token = BackendPeer(self.stage), f"{self.round:032d}"
        try:
            worker.command("e", b"open,close as=play ack")
            worker.until(lambda: self.event(worker, b'"event":"subscribed"'), "subscribed")
            visitor = Client(self.stage, "unix", token)
            worker.until(lambda: self.event(worker, token.encode(), b'"event":"open"'), "open")
            visitor.leave()
            worker.until(lambda: self.event(worker, token.encode(), b'"event":"close"'), "close")
            worker.ask("t", b"", "T")
            worker.command("q")
        finally:
            worker.close()

    def event(self, worker, *parts):
        """An event that has all of these in it, if it is here."""
        while (found := worker.take()) is not None:
            if found[0] == "e" and all(part in found[1] for part in parts):
                number = found[1].split(b'"n":')
                if len(number) > 1:
                    worker.command("a", number[1].split(b",")[0])
                return True
        return None

    def visit(self, guest):
        guest.send(frame(0x80 | TEXT, b"hello"))
        guest.wait_for(TEXT, b"hello", "echo")
        guest.leave()

    def aftermath(self):
        """Without any fault: which peers are still there, and does everything work as before? Complaints."""
        wrong = []
        for name in list(self.witnesses):
            self.witness(name, Client.ask)
        try:
            backend = BackendPeer(self.stage)
            mark = b"after %d" % self.round
            backend.command("b", mark)
            for name in list(self.witnesses):
                self.witness(name, lambda client: client.wait_for(TEXT, mark, "the broadcast afterwards"))
            backend.command("q")
            backend.close()
            guest = Client(self.stage, "tcp")
            self.visit(guest)
        except Gone as gone:
            wrong.append(f"nobody new gets in: {gone}")
        return wrong

    def close(self):
        for client in self.witnesses.values():
            client.close()
