"""Clients, good and bad, and processes for those that work at the same time.

A peer that measures runs in a process of its own: what the attacker's process is busy with must not count.
"""
import ctypes
import multiprocessing
import os
import select
import socket
import struct
import time

from .server import PATIENCE_S, head

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"
FORK = multiprocessing.get_context("fork")
SO_ATTACH_FILTER = 26


def masked(payload):
    """With MASK repeated. As one number: bytes one by one would take too long."""
    if not payload:
        return b""
    key = (MASK * (len(payload) // 4 + 1))[:len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def frame(first, payload=b"", claim=None):
    """A masked frame. `claim` is a length that the header tells instead of the payload's."""
    length = len(payload) if claim is None else claim
    if length < 126:
        size = struct.pack("!B", 0x80 | length)
    elif length < 65536:
        size = struct.pack("!BH", 0xFE, length)
    else:
        size = struct.pack("!BQ", 0xFF, length)
    return bytes([first]) + size + MASK + masked(payload)


def dial(server, shallow=False, receive_buffer=None, source=None):
    """`shallow`: over a Unix socket, of which the kernel keeps 200 kB; of TCP it would keep megabytes."""
    connection = socket.socket(socket.AF_UNIX if shallow else socket.AF_INET)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(PATIENCE_S)
    if source:
        connection.bind((source, 0))
    connection.connect(server.local if shallow else ("127.0.0.1", server.port))
    return connection


def read_head(connection):
    """The answer's head; what follows it stays in the kernel."""
    while True:
        seen = connection.recv(4096, socket.MSG_PEEK)
        end = seen.find(b"\r\n\r\n")
        if end >= 0 or not seen:
            return connection.recv(end + 4) if seen else b""


def fleet(server, count, shallow=False, times=None, tokens=None):
    """This many open connections, each with a token of its own."""
    opened = []
    while len(opened) < count:
        batch = []
        for place in range(len(opened), min(len(opened) + 250, count)):
            connection = dial(server, shallow)
            connection.sendall(head(tokens and tokens[place], times))
            batch.append(connection)
        for connection in batch:
            answer = read_head(connection)
            if not answer.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(f"not let in: {answer!r}")
        opened += batch
    return opened


def take_frame(buffer):
    """Takes the next frame that has arrived whole from a bytearray, as (opcode, payload)."""
    if len(buffer) < 2:
        return None
    length, start = buffer[1], 2
    if length > 125:
        start = 4 if length == 126 else 10
        if len(buffer) < start:
            return None
        length = int.from_bytes(buffer[2:start], "big")
    if len(buffer) < start + length:
        return None
    opcode, payload = buffer[0] & 15, bytes(buffer[start:start + length])
    del buffer[:start + length]
    return opcode, payload


class Client:
    """One open connection with a decoder for what the server sends."""

    def __init__(self, server, token=None, shallow=False, receive_buffer=None):
        self.socket = dial(server, shallow, receive_buffer)
        self.socket.sendall(head(token))
        answer = read_head(self.socket)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"not let in: {answer!r}")
        self.input = bytearray()

    def send(self, data):
        self.socket.sendall(data)

    def take(self):
        return take_frame(self.input)

    def receive(self):
        """The next frame, or None at the end."""
        while not (found := self.take()):
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.input += more
        return found

    def close_code(self):
        """The code of the close frame that comes, 0 for an end without one."""
        while found := self.receive():
            if found[0] == CLOSE:
                return int.from_bytes(found[1][:2], "big")
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def close_all(connections):
    for connection in connections:
        connection.close()


def black_hole(connection):
    """From now on nothing that is sent to this socket arrives, and nothing is acknowledged: a filter drops it all."""
    drop_all = struct.pack("HBBI", 6, 0, 0, 0)
    place = ctypes.create_string_buffer(drop_all)
    program = struct.pack("HP", 1, ctypes.addressof(place))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


class Background:
    """`work(stopped, *args)` in a process of its own; `stop` ends it and returns its result."""

    def __init__(self, work, *args, nice=0):
        self.pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self.main, args=(theirs, work, args, nice), daemon=True)
        self.process.start()
        theirs.close()

    @staticmethod
    def main(pipe, work, args, nice):
        os.nice(nice)
        pipe.send(work(lambda pause_s=0: pipe.poll(pause_s), *args))

    def wait(self):
        found = self.pipe.recv()
        self.process.join()
        return found

    def stop(self):
        try:
            self.pipe.send(None)
        except OSError:
            pass  # it has ended by itself
        return self.wait()


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else float("inf")


# Work for the background.

def handshakes(stopped, server, pause_s=0.003):
    """Seconds that each genuine handshake took, from connecting to 101; None for one that failed."""
    took = []
    while not stopped(pause_s):
        begin = time.monotonic()
        try:
            with Client(server) as client:
                took.append(time.monotonic() - begin)
                client.send(frame(0x88, b"\x03\xe8"))
                client.close_code()
        except (OSError, RuntimeError):
            took.append(None)
    return took


def directs(stopped, server, pause_s=0.002):
    """Seconds from the command of one backend to the message at one client, and from a ping to its pong."""
    token, took = "d" * 32, []
    with Client(server, token) as client, server.backend() as backend:
        while not stopped(pause_s):
            begin = time.monotonic()
            backend.command("d", token.encode() + b"tick")
            client.receive()
            middle = time.monotonic()
            client.send(frame(0x89, b"tick"))
            client.receive()
            took += [middle - begin, time.monotonic() - middle]
    return took


def listeners(stopped, server, count):
    """Seconds from the stamp in each broadcast to its arrival, at `count` clients that read."""
    took, poll, clients = [], select.epoll(), {}
    for _ in range(count):
        client = Client(server)
        client.socket.setblocking(False)
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    while not stopped():
        for number, _ in poll.poll(0.05):
            client = clients[number]
            try:
                client.input += client.socket.recv(1 << 18)
            except BlockingIOError:
                continue
            now = time.monotonic()
            while found := client.take():
                if found[0] == TEXT:
                    took.append(now - float(found[1][:20]))
                elif found[0] == PING:
                    client.socket.send(frame(0x8A, found[1]))
    return took


def broadcasts(stopped, server, size, pause_s):
    """Broadcasts with a stamp, one each `pause_s`; how many."""
    sent, due = 0, time.monotonic()
    with server.backend() as backend:
        while not stopped(max(0, due - time.monotonic())):
            backend.command("b", (b"%020.9f" % time.monotonic()).ljust(size, b"."))
            sent, due = sent + 1, due + pause_s
        backend.command("q")
        backend.reply()
    return sent
