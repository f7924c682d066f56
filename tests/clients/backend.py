"""A backend in Python: every command, over the control socket of the environment."""
import json
import os

from harness import Backend, check, finish

NAME, TOKEN, STRANGER = (os.environ[name] for name in ("NAME", "TOKEN", "STRANGER"))

with Backend(os.environ["CONTROL"]) as backend:
    def answers(name, letter, payload, expected):
        backend.command(letter, payload)
        check(f"{NAME} {name}", backend.reply(), expected)

    token, stranger = TOKEN.encode(), STRANGER.encode()
    backend.command("b", "hällo to all".encode())
    backend.command("B", b"\x00\xff")
    backend.command("d", token + "direct €".encode())
    backend.command("D", token + b"\xff\x00")
    answers("confirmed", "c", token + b"confirmed", ("A", token))
    answers("nobody there", "c", stranger + b"x", ("N", stranger))
    answers("is it there", "c", token, ("A", token))
    for letters, parts in (("fis", [b"one ", b"two ", b"three"]), ("FIS", [b"\x00", b"\x01", b"\x02"])):
        answers("lock", "l", token, ("A", token))
        for letter, part in zip(letters, parts):
            answers(f"fragment {letter}", letter, part, ("a", b""))
    answers("no lock left", "s", b"x", ("n", b""))
    answers("ping", "p", b"", ("P", b""))
    backend.command("t")
    letter, status = backend.reply()
    check(f"{NAME} status", (letter, json.loads(status)["clients"]), ("T", 1))
    backend.command("m")
    check(f"{NAME} freest listener", backend.reply()[0], "M")
    backend.command("q")
    check(f"{NAME} quit", backend.reply(), None)

with Backend(os.environ["CONTROL"]) as backend:
    backend.send(b"8bone shot\n")
finish()
