#!/usr/bin/env python3
"""The worker of the chat, in Python without a library. Start as many as you like: each line is handled by one of them, and
what one had not confirmed when it died is told to another."""
import collections, json, os, socket, time
CONTROL = os.environ.get("CHAT_CONTROL", "/run/wsson/control.sock")
HISTORY = os.environ.get("CHAT_HISTORY", "history.jsonl")
MODERATORS = os.environ.get("CHAT_MODERATORS", "Mo").split(",")
ROOMS = ["lobby", "kitchen", "garden"]


class Wsson:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(CONTROL)
        self.input = self.socket.makefile("rb")
        self.asked = collections.deque()  # the rooms that answers to `h` are about, in order

    def command(self, letter, payload=""):
        payload = payload.encode()
        self.socket.sendall(b"%d%s%s" % (len(payload), letter.encode(), payload))

    def frames(self):
        while True:
            digits = b""
            while (byte := self.input.read(1)).isdigit():
                digits += byte
            if not byte:
                raise ConnectionError("wsson has closed")
            yield byte.decode(), self.input.read(int(digits)).decode()

    def write(self, to, message):
        self.command("w", f"{to} {json.dumps(message)}")

    def ask_who_is_here(self):
        for room in ROOMS:
            self.command("h", f"g:{room}")
        self.asked.extend(ROOMS)


def recent():
    """The end of the history, which all workers append to."""
    with open(HISTORY, "ab+") as file:
        file.seek(max(0, file.tell() - 65536))
        return [json.loads(line) for line in file if line.startswith(b"{") and line.endswith(b"}\n")]


def say(wsson, user, room, said):
    line = {"type": "line", "id": str(said["id"])[:40], "room": room, "name": user,
            "text": str(said["text"])[:1000], "time": int(time.time())}
    # A page that was cut off says a line again, and what another worker left may be done already.
    if not any(other["id"] == line["id"] for other in recent()):
        with open(HISTORY, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")  # one write, so that lines of workers do not mix
    wsson.write(f"g:{room}", line)


def message(wsson, connection, user, text):
    said = json.loads(text)
    kind, room = said.get("type"), said.get("room")
    if kind == "kick" and user in MODERATORS and str(said.get("name")).isalnum():
        wsson.command("k", f"u:{said['name']} {user} asked you to leave")
    elif room not in ROOMS:
        return
    elif kind == "join":
        wsson.command("J", f"{','.join(ROOMS)} c:{connection}")
        wsson.command("j", f"{room} c:{connection}")
        lines = [line for line in recent() if line["room"] == room][-20:]
        wsson.write(f"c:{connection}", {"type": "history", "room": room, "lines": lines, "may_kick": user in MODERATORS})
        wsson.ask_who_is_here()
    elif kind == "say":
        say(wsson, user, room, said)
    elif kind == "typing":
        wsson.write(f"g:{room},-c:{connection}", {"type": "typing", "room": room, "name": user})


def serve(wsson):
    wsson.command("e", "message,close as=chat ack")
    for letter, payload in wsson.frames():
        if letter == "g":
            number, connection, _token, user, text = payload.split(" ", 4)
            try:
                message(wsson, connection, user, text)
            except (ValueError, KeyError, AttributeError, TypeError):
                pass  # not one of our page's
            wsson.command("a", number.rstrip("+"))
        elif letter == "e" and "n" in (event := json.loads(payload)):
            wsson.ask_who_is_here()
            wsson.command("a", str(event["n"]))
        elif letter == "H":
            room, here = wsson.asked.popleft(), json.loads(payload).get("users", [])
            wsson.write(f"g:{room}", {"type": "here", "room": room, "names": sorted(who["name"] for who in here)})
        elif letter == "p":
            wsson.command("P")


while True:
    try:
        serve(Wsson())
    except OSError:  # wsson restarts
        time.sleep(0.3)
