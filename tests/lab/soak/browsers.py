"""Clients of the soak, all in one loop: those that stay and judge every message, and those that come and go.

A message is `kind stream number crc filler`. Who stays has seen each broadcast and each direct message that was sent
after it was let in, once, and in the order of its stream.
"""
import socket
import struct
import zlib

from rig.peers import CLOSE, PING, PONG, TEXT, dial, frame
from rig.server import head

RESET = struct.pack("ii", 1, 0)


def message(kind, stream, number, filler=b""):
    return b"%s %d %d %08x " % (kind, stream, number, zlib.crc32(filler)) + filler


def parsed(data):
    """(kind, stream, number), or None for a message that no process sent."""
    try:
        kind, stream, number, crc, filler = data.split(b" ", 4)
        return (kind, int(stream), int(number)) if int(crc, 16) == zlib.crc32(filler) else None
    except ValueError:
        return None


class Browser:
    """A connection. Its maker says which ends are expected: `wanted` are statuses and close codes."""

    def __init__(self, world, token=None, shallow=False, opening=None, wanted=(), then=None, receive_buffer=None):
        self.world, self.token, self.wanted, self.then = world, token, wanted, then
        self.input, self.parts, self.is_open, self.found, self.answers = bytearray(), bytearray(), False, None, True
        self.socket = dial(world.server, shallow, receive_buffer)
        self.socket.setblocking(False)
        world.add(self)
        self.send(head(token) if opening is None else opening)

    def send(self, data):
        try:
            if self.socket.send(data) != len(data):
                self.world.fault("unexpected", f"{type(self).__name__} could not send")
        except OSError:
            pass  # the end shows when it is read

    def readable(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.end()
        self.input += data
        if not self.is_open and not self.answered():
            return
        while self.socket and (found := self.take()):
            self.framed(*found)

    def answered(self):
        """Whether it was let in."""
        end = self.input.find(b"\r\n\r\n")
        if self.found is not None or end < 0:
            return False
        status = int(self.input[9:12])
        if status != 101:
            self.found = status
            return False
        del self.input[:end + 4]
        self.is_open = True
        self.opened()
        if self.then:
            self.then(self)
        return self.socket is not None

    def opened(self):
        pass

    def take(self):
        data = self.input
        if len(data) < 2:
            return None
        length, start = data[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        if len(data) < start or len(data) < start + length:
            return None
        first, payload = data[0], bytes(data[start:start + length])
        del data[:start + length]
        return first, payload

    def framed(self, first, payload):
        opcode = first & 15
        if opcode == PING:
            if self.answers:
                self.send(frame(0x80 | PONG, payload))
        elif opcode == CLOSE:
            self.found = int.from_bytes(payload[:2], "big")
            self.send(frame(0x80 | CLOSE, payload[:2]))
        elif opcode != PONG:
            self.parts += payload
            if first & 0x80:
                whole, self.parts = bytes(self.parts), bytearray()
                self.got(whole)

    def got(self, data):
        self.world.deliveries += 1
        if not parsed(data):
            self.world.fault("damaged", repr(data[:60]))

    # Its end.

    def end(self):
        """The server has ended it."""
        if self.wanted and self.found not in self.wanted:
            self.world.fault("unexpected", f"ended with {self.found}, not {self.wanted}")
        self.leave()

    def leave(self, reset=False):
        if self.socket:
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.world.drop(self)
            self.socket.close()
            self.socket = None

    def bid_farewell(self):
        self.wanted = (1000,)
        self.send(frame(0x80 | CLOSE, b"\x03\xe8"))


class Reader(Browser):
    """It stays, and judges."""

    def opened(self):
        self.since_broadcast, self.since_direct = self.world.broadcasts, self.world.directs[self.token]
        self.counts, self.last = {b"b": 0, b"d": 0}, {}
        self.echoes_sent = self.echoes = 0
        self.leaving = False

    def got(self, data):
        self.world.deliveries += 1
        if not (found := parsed(data)):
            return self.world.fault("damaged", repr(data[:60]))
        kind, stream, number = found
        last = self.last.get((kind, stream), -1)
        if number <= last:
            self.world.fault("duplicate" if number == last else "reordered", repr(data[:60]))
        self.last[kind, stream] = number
        if kind == b"e":
            self.echoes += 1
            if number != last + 1:
                self.world.fault("lost", f"echo {last + 1}")
        elif number >= {b"b": self.since_broadcast, b"d": self.since_direct}.get(kind, number + 1):
            self.counts[kind] += 1

    def echo(self, filler):
        self.send(frame(0x80 | TEXT, message(b"e", 0, self.echoes_sent, filler)))
        self.echoes_sent += 1

    def missing(self):
        broadcasts = self.world.broadcasts - self.since_broadcast - self.counts[b"b"]
        directs = self.world.directs[self.token] - self.since_direct - self.counts[b"d"]
        return broadcasts, directs, self.echoes_sent - self.echoes

    def end(self):
        if not self.leaving:
            self.world.fault("unexpected", f"a reader was closed with {self.found}")
        self.leave()

    def go(self):
        """Leaves; its token comes again with another connection."""
        self.leaving = True
        self.send(frame(0x80 | CLOSE, b"\x03\xe8"))
