"""Row 42: headers of the PROXY protocol that are none, or that another than the trusted proxy sends."""
import collections
import random
import socket
import struct
import time

from report import MIB, Aftermath, is_so, row
from rig.server import Server, head

PROXY, STRANGER = "127.0.0.9", "127.0.0.2"  # all of 127/8 is this host
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HANDSHAKE_S = 5


def binary(command, family, block, length=None):
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(block) if length is None else length) + block


GOOD = [b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n", binary(0x21, 0x11, bytes([203, 0, 113, 9, 192, 0, 2, 1, 200, 34, 1, 187]))]


def malformed():
    """Sixty forms, none of which is a header, or none that ends."""
    line = GOOD[0]
    yield from (line.replace(old, new) for old, new in [
        (b"TCP4", b"TCP6"), (b"TCP4", b"tcp4"), (b"TCP4", b"UDP4"), (b"TCP4 ", b"TCP4  "), (b" 443", b""), (b" 443", b" 443 1"),
        (b"51234", b"65536"), (b"51234", b"-1"), (b"51234", b"051234"), (b"51234", b"0x1"), (b"203.", b"0203."), (b"203.", b"303."),
        (b"203.0.113.9", b"localhost"), (b"203.0.113.9", b"::1"), (b"203.0.113.9", b"203.0.113"), (b"203.0.113.9 ", b""),
        (b"\r\n", b"\n"), (b"\r\n", b"\r"), (b"\r\n", b" \r\n"), (b" 443", b"\t443"), (b"PROXY ", b"PROXY\t"), (b"PROXY ", b"proxy "),
        (b"PROXY ", b" PROXY "), (b"203.0.113.9", b"203.0.113.9\0"), (b"203.0.113.9", b"\xff03.0.113.9"), (b"TCP4", b"UNKNOWNX"),
    ])
    block = GOOD[1][16:]
    yield from (binary(*parts) for parts in [
        (0x11, 0x11, block), (0x31, 0x11, block), (0x01, 0x11, block), (0x22, 0x11, block), (0x2F, 0x11, block), (0x21, 0x13, block),
        (0x21, 0x41, block), (0x21, 0xF1, block), (0x21, 0x21, block), (0x21, 0x31, block), (0x21, 0x11, block[:11]), (0x21, 0x11, b""),
        (0x21, 0x11, block, 0xFFFF), (0x21, 0x11, block, 4097), (0x20, 0x00, b"", 0xFFFF), (0x21, 0x00, b"", 5000),
    ])
    yield from (GOOD[1].replace(SIGNATURE, signature) for signature in (SIGNATURE[:-1], SIGNATURE[1:], SIGNATURE.lower(), b"\n" + SIGNATURE))
    yield GOOD[0] + GOOD[0]
    yield GOOD[0] + GOOD[1]
    yield GOOD[1] + GOOD[0]
    noise = random.Random(42)
    for size in (1, 16, 107, 232, 4096, 60000, 8, 30, 500, 2000, 12):
        yield noise.randbytes(size)


def from_address(server, address):
    connection = socket.socket()
    connection.settimeout(HANDSHAKE_S + 5)
    connection.bind((address, 0))
    connection.connect(("127.0.0.1", server.port))
    return connection


def answer(connection, *pieces):
    try:
        for piece in pieces:
            connection.sendall(piece)
        found = connection.recv(65536)[9:12].decode() or "nothing"
    except OSError as error:
        found = type(error).__name__
    connection.close()
    return found


@row(42)
def proxy_headers(quick):
    waiting = 100 if quick else 1000
    with Server(top=["proxy_protocol = true", f'trusted_proxies = ["{PROXY}"]']) as server:
        aftermath = Aftermath(server)
        forms = list(malformed())
        found = collections.Counter(answer(from_address(server, PROXY), form, head()) for form in forms)
        yield is_so(f"{len(forms)} malformed headers of the trusted proxy, a genuine request behind each: let in", found["101"], 0)
        yield "↳ answers", ", ".join(f"{count} × {code}" for code, count in sorted(found.items())), "none is 101", "101" not in found
        before = len(server.log())
        found = [answer(from_address(server, STRANGER), header, head()) for header in GOOD]
        yield is_so("good headers of another address: answers", found, ["400", "400"])
        believed = server.log()[before:].count("203.0.113.9")
        yield is_so("↳ mentions of the address that they claim in the log", believed, 0)
        yield is_so("a genuine request of the proxy without a header: answer", answer(from_address(server, PROXY), head()), "400")
        yield is_so("good headers of the trusted proxy: answers", [answer(from_address(server, PROXY), header, head()) for header in GOOD], ["101", "101"])

        rss, begin = server.memory(), time.monotonic()
        connections = [from_address(server, PROXY) for _ in range(waiting)]
        for place, connection in enumerate(connections):
            connection.sendall(GOOD[place % 2][:-1])
        grown = (server.memory() - rss) / MIB
        connections[-1].recv(4096)
        last = time.monotonic() - begin
        per = 1024 * grown / waiting
        yield f"{waiting} headers without their last byte: RSS grew by", f"{grown:.2f} MiB, {per:.2f} KiB each", "≤ 1 MiB", grown <= 1
        yield "↳ the last one was told to go after", f"{last:.1f} s", f"≤ {HANDSHAKE_S} s and what connecting took", last <= HANDSHAKE_S + 2.5
        for connection in connections:
            connection.close()
        yield from aftermath.figures()
