"""Row 23: backends that send ten thousand random streams of commands, and end them in every way there is."""
import random
import select
import socket
import struct

from rig.peers import CLOSE, PING, Background, Client, frame
from report import Aftermath, is_so, row
from rig.server import Server, eventually

CLIENTS = 24
# Which replies a command may have.
REPLIES = {**dict.fromkeys("cCl", "AN"), **dict.fromkeys("fFiIsS", "an"), "m": "M", "t": "T", "p": "P"}
LETTERS = "bBdDcCclllffFiIssSmtpP"
ENDS = ["half-close"] * 10 + ["quit", "quit", "error", "error", "error", "gone", "gone", "reset", "cut"]


def tokens():
    return [f"s{place:031d}" for place in range(CLIENTS)]


def audience(stopped, server):
    """Clients that read everything and come again when a lost source has closed them; how often that was."""
    again, poll, clients = 0, select.epoll(), {}

    def join(token):
        client = Client(server, token)
        client.token = token
        client.socket.setblocking(False)
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)

    for token in tokens():
        join(token)
    while not stopped():
        for number, _ in poll.poll(0.05):
            client = clients[number]
            try:
                more = client.socket.recv(1 << 18)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                more = b""
            client.input += more
            while found := client.take():
                if found[0] in (CLOSE, PING):
                    client.socket.send(frame(0x88 if found[0] == CLOSE else 0x8A, found[1]))
            if not more:
                clients.pop(number).socket.close()
                again += 1
                join(client.token)
    return again


def command(dice, letter):
    if letter in "dDcCl":
        token = dice.choice(tokens()) if dice.random() < 0.9 else "x" * 32
        body = token.encode() + (b"" if letter == "l" else text(dice, letter))
    elif letter in "bBfFiIsS":
        body = text(dice, letter)
    else:
        body = b"ignored" * dice.randrange(2)
    zeros = b"0" * dice.randrange(3)
    return zeros + b"%d" % len(body) + letter.encode() + body + dice.choice([b"", b"", b"\n", b"\r\n"])


def text(dice, letter):
    length = dice.choice([0, 1, 10, 100, 1000, 20_000]) if dice.random() < 0.3 else dice.randrange(50)
    return bytes(dice.randrange(256) for _ in range(min(length, 50))) if letter.isupper() else b"t" * length


def stream(dice):
    """(bytes, the replies that must come, how it ends)."""
    letters = [dice.choice(LETTERS) for _ in range(dice.randrange(40))]
    data = b"".join(command(dice, letter) for letter in letters)
    wanted = [REPLIES[letter] for letter in letters if letter in REPLIES]
    end = dice.choice(ENDS)
    if end == "quit":
        data += b"0q0p0p"
    elif end == "error":
        data += dice.choice([b"x0p", b"0z0p", b"GET / HTTP/1.1\r\n\r\n", b"9999999999b", b"99999999b", b"2b\xff\xfe0p", b" 0p", b"-1b", b"10l0123456789"])
        wanted.append("E")
    elif end == "cut":
        data += b"500bhalf a frame"
    return data, wanted, end


def play(server, dice):
    """One stream; None when all is well, otherwise what is wrong."""
    data, wanted, end = stream(dice)
    with server.backend() as backend:
        pieces = dice.choice([1, 1, 2, 5])
        try:
            for piece in range(pieces):
                backend.socket.sendall(data[piece * len(data) // pieces:(piece + 1) * len(data) // pieces])
        except OSError:
            if end != "error":
                return f"{end}: cut off while sending"
        if end == "reset":
            backend.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if end in ("gone", "reset", "cut"):
            return None
        if end == "half-close":
            backend.socket.shutdown(socket.SHUT_WR)
        if data[:1].isalpha():  # HTTP, for as long as the connection lives
            answer = backend.file.read()
            return None if answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"\r\n\r\n") == 1 else f"{end}: {answer[:200]!r} for {data[:100]!r}"
        found = []
        while reply := backend.reply():
            found.append(reply[0])
        right = len(found) == len(wanted) and all(one in some for one, some in zip(found, wanted))
        return None if right else f"{end}: {''.join(found)} for {wanted}, sent {data[:300]!r}"


def player(stopped, server, seed, count):
    dice, wrong = random.Random(seed), []
    for _ in range(count):
        try:
            problem = play(server, dice)
        except OSError as error:
            problem = f"{error!r}"
        if problem:
            wrong.append(problem)
    return wrong


@row(23)
def random_streams(quick):
    total, at_once = (400, 8) if quick else (10_000, 8)
    with Server() as server:
        aftermath = Aftermath(server)
        crowd = Background(audience, server)
        eventually(lambda: server.status()["clients"] == CLIENTS)
        players = [Background(player, server, seed, total // at_once) for seed in range(at_once)]
        wrong = sum((one.wait() for one in players), [])
        found = f"{len(wrong)}" + (f", the first: {wrong[0][:400]}" if wrong else "")
        yield f"{total} random command streams, {at_once} at once, with half-closes, quits, errors, resets, cut frames: replies lost or out of order", found.replace("|", "¦"), "0", not wrong
        eventually(lambda: server.status()["backends"] == 1 and server.status()["clients"] == CLIENTS, 10)
        yield is_so("↳ locks left", server.status()["locks"], 0)
        yield is_so("↳ clients that can be locked", lockable(server), CLIENTS)
        again = crowd.stop()
        closed = server.status()["closed"].get("1011", 0)
        yield is_so("↳ clients that had to come again, as their source was lost within a message (closed 1011)", again, closed)
        yield from aftermath.figures()


def lockable(server):
    """A backend holds one lock at a time, so each is asked by a backend of its own."""
    count = 0
    for token in tokens():
        with server.backend() as backend:
            count += backend.ask("l", token.encode())[0] == "A"
            backend.ask("s", b"x")
    return count
