"""A browser's side with the `websockets` library: connect, messages, fragments, ping, close, refusals."""
import os

from harness import Backend, check, finish, not_ok, ok
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

URL = f"ws://127.0.0.1:{os.environ['WS_PORT']}/"
TOKEN = os.environ["TOKEN"]


def opened(cookie=os.environ["COOKIE"], origin=os.environ["ORIGIN"], compression=None):
    headers = {"Cookie": cookie} if cookie else {}
    return connect(URL, additional_headers=headers, origin=origin, compression=compression, max_size=2**21)


def refused(name, **change):
    try:
        opened(**change).close()
        not_ok(name, "it was let in")
    except InvalidStatus as error:
        response = error.response
        check(name, (response.status_code, bool(response.body)), (403, True))


with opened() as client:
    ok("python connect")
    for name, message in [("text", "hällo 𐍈"), ("empty", ""), ("binary", b"\x00\xff"), ("large", "x" * 1_000_000)]:
        client.send(message)
        check(f"python {name}", client.recv(timeout=10), message)
    client.send(["frag", "men", "ts"])
    check("python sends fragments", client.recv(timeout=10), "fragments")
    check("python ping", client.ping(b"payload").wait(10), True)

    with Backend(os.environ["CONTROL"]) as backend:
        replies = []
        for letter, payload in [("l", TOKEN.encode()), ("f", b"one "), ("i", b"two "), ("s", b"three")]:
            backend.command(letter, payload)
            replies.append(backend.reply()[0])
        check("python backend locks", replies, ["A", "a", "a", "a"])
    check("python receives fragments", list(client.recv_streaming()), ["one ", "two ", "three"])
    client.close(4001, "bye")
    check("python close", client.protocol.close_rcvd.code, 4001)

with opened(compression="deflate") as client:
    check("python offers deflate in vain", client.protocol.extensions, [])

with opened() as client:
    client.send("\ud7ff")
    client.recv(timeout=10)
    with client.send_context():
        client.protocol.send_text(b"\xff\xfe")
    try:
        client.recv(timeout=10)
        not_ok("python invalid UTF-8", "it was accepted")
    except ConnectionClosed as error:
        check("python invalid UTF-8", error.rcvd.code, 1007)

refused("python refused: wrong digest", cookie=os.environ["BAD_COOKIE"])
refused("python refused: no cookie", cookie=None)
refused("python refused: wrong origin", origin="https://example.com.evil")
refused("python refused: no origin", origin=None)
finish()
