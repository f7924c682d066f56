"""Row 8: frames that lie, never end, or come by the million. Each on a connection of its own, RSS watched at its peak."""
import time

from rig.peers import BINARY, CLOSE, TEXT, Client, close_all, fleet, frame
from report import Aftermath, at_most, is_so, row
from rig.server import MIB, Server, eventually

FIN = 0x80
MESSAGE_MAX = 65536


def lies():
    """(what it is, bytes, the close code)."""
    huge = frame(FIN | BINARY, claim=65536)
    yield "a length of 2^63", frame(FIN | BINARY, claim=1 << 63), 1002
    yield "a length of all ones", frame(FIN | BINARY, claim=(1 << 64) - 1), 1002
    yield "a length of 2^63 - 1", frame(FIN | BINARY, claim=(1 << 63) - 1), 1009
    yield "a length one over the limit", frame(FIN | BINARY, claim=MESSAGE_MAX + 1), 1009
    yield "a length in 8 bytes that fits into 2", huge[:2] + (65535).to_bytes(8, "big") + huge[10:], 1002
    yield "a length in 2 bytes that fits into 7 bits", bytes([FIN | BINARY, 0xFE, 0, 125]) + b"mask", 1002
    yield "no mask", bytes([FIN | TEXT, 1]) + b"x", 1002
    for bit in (0x40, 0x20, 0x10):
        yield f"reserved bit {bit:#x}", frame(FIN | bit | TEXT, b"x"), 1002
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", frame(FIN | opcode, b"x"), 1002
    for opcode in (8, 9, 10):
        yield f"control frame {opcode} in fragments", frame(opcode, b""), 1002
        yield f"control frame {opcode} of 126 bytes", frame(FIN | opcode, b"\x03\xe8" + b"x" * 124), 1002
    yield "a continuation of nothing", frame(FIN, b"x"), 1002
    yield "a message within a message", frame(TEXT, b"x") + frame(FIN | TEXT, b"x"), 1002
    yield "text that is not UTF-8", frame(FIN | TEXT, b"\xc0\xaf"), 1007
    yield "a surrogate, cut between fragments", frame(TEXT, b"\xed") + frame(FIN, b"\xa0\x80"), 1007
    yield "a close reason that is not UTF-8", frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007
    for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535):
        yield f"close code {code}", frame(FIN | CLOSE, code.to_bytes(2, "big")), 1002
    yield "a close payload of one byte", frame(FIN | CLOSE, b"\x03"), 1002


class Peak:
    """How far RSS rose above what it was."""

    def __init__(self, server):
        server.forget_peak()
        self.server, self.begin = server, server.memory()

    def grown_mib(self):
        return (self.server.memory("VmHWM") - self.begin) / MIB


def pour(client, data, times):
    """Sends `data` so often, or until the server has had enough."""
    try:
        for _ in range(times):
            client.send(data)
    except OSError:
        pass


@row(8)
def bad_frames(quick):
    million = 100_000 if quick else 1_000_000
    with Server(top=['on_message = "echo"']) as server:
        aftermath = Aftermath(server)
        yield from each_lie(server)
        yield from lies_by_the_hundred(server, 100)
        for attack in (empty_fragments, tiny_fragments, endless_fragments, unread_pongs):
            yield from attack(server, million)
        yield from aftermath.figures()


def each_lie(server):
    peak, wrong, count = Peak(server), [], 0
    for what, data, code in lies():
        with Client(server) as client:
            client.send(data)
            found = client.close_code()
        count += 1
        if found != code:
            wrong.append(f"{what}: {found}, not {code}")
    yield is_so(f"{count} kinds of malformed frames: closed with another code than theirs", "; ".join(wrong) or "none", "none")
    yield at_most("↳ RSS grew by", peak.grown_mib(), 1, "MiB")


def lies_by_the_hundred(server, count):
    """The header alone, then nothing: a hundred that announce 64 KiB must not cost 64 KiB each."""
    peak = Peak(server)
    clients = fleet(server, count)
    for client in clients:
        client.sendall(frame(FIN | BINARY, claim=MESSAGE_MAX))
    settled = eventually(lambda: server.status()["clients"] == count)
    yield at_most(f"{count} clients that announce {MESSAGE_MAX} bytes and send none: RSS grew by", peak.grown_mib(), 1, "MiB")
    close_all(clients)
    if not settled or not eventually(lambda: server.status()["clients"] == 0):
        raise RuntimeError("the clients are not as they should be")


def empty_fragments(server, million):
    peak = Peak(server)
    with Client(server) as client:
        client.send(frame(TEXT, b"a"))
        pour(client, frame(0) * 10_000, million // 10_000)
        client.send(frame(FIN, b"z"))
        echoed = client.receive()
        yield is_so(f"{million} empty fragments within a message: echoed", echoed, (TEXT, b"az"))
    yield at_most("↳ RSS grew by", peak.grown_mib(), 1, "MiB")


def tiny_fragments(server, million):
    """As many as the limit lets through, then until the server says no."""
    peak = Peak(server)
    with Client(server) as client:
        client.send(frame(BINARY, b"x") + frame(0, b"x") * (MESSAGE_MAX - 2) + frame(FIN, b"x"))
        length = len(client.receive()[1])
        yield is_so("a message in 65,536 fragments of one byte: bytes echoed", length, MESSAGE_MAX)
    with Client(server) as client:
        client.send(frame(BINARY, b"x"))
        client.socket.settimeout(10)
        pour(client, frame(0, b"x") * 1000, million // 1000)
        yield is_so(f"{million} fragments of one byte without an end: closed with", client.close_code(), 1009)
    yield at_most("↳ RSS grew by", peak.grown_mib(), 1, "MiB")


def endless_fragments(server, _):
    peak = Peak(server)
    with Client(server) as client:
        client.send(frame(BINARY, b"x"))
        pour(client, frame(0, b"x" * 1000), 200)
        yield is_so("fragments of 1,000 bytes without an end: closed with", client.close_code(), 1009)
    yield at_most("↳ RSS grew by", peak.grown_mib(), 1, "MiB")


def unread_pongs(server, million):
    """Its own receive buffer is as small as can be, so that the pongs pile up at the server."""
    peak = Peak(server)
    with Client(server, receive_buffer=2048) as client:
        client.socket.settimeout(20)
        pings, sent = frame(0x89, b"p" * 125) * 1000, 0
        begin = time.monotonic()
        try:
            while sent < million:
                client.send(pings)
                sent += 1000
        except OSError:
            pass
        took = time.monotonic() - begin
        gone = eventually(lambda: server.status()["clients"] == 0, 20, 0.1)
        after = time.monotonic() - begin
    yield f"{million} pings of 125 bytes whose pongs nobody reads: {sent} taken in {took:.1f} s; the client is gone", f"after {after:.1f} s", "≤ 32 s", gone and after <= 32
    yield at_most("↳ RSS grew by", peak.grown_mib(), 1, "MiB")
