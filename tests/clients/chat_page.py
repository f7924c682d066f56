"""The chat of examples/chat in two windows of headless Chromium, with its worker in each of its languages.

Two visitors talk while the worker is killed and wsson is restarted: each line is in both windows once. Rooms, who is here,
typing, a kick. Prints `ok NAME` or `not ok NAME: why`. SHOTS=FOLDER keeps screenshots there.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import demo_page
from demo_page import SHOTS, Browser, wait
from harness import BINARY, PATIENCE_S, ROOT, check, free_port, ok

RUN = os.path.join(ROOT, "examples", "chat", "run")


class Chat:
    """The example as the README starts it."""

    def __init__(self, language, workers=1):
        self.folder = tempfile.mkdtemp(prefix="wsson-chat-test-")
        port, ws_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}/"
        command = [sys.executable, RUN, language, "--port", str(port), "--ws-port", str(ws_port), "--workers", str(workers), "--folder", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "WSSON": BINARY})
        self.process.stdout.readline()
        wait("the chat's wsson listens", lambda: os.path.exists(os.path.join(self.folder, "control.sock")))

    def children(self):
        """Its processes by the first word of their command line that tells them apart."""
        found = {}
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/task/{task}/children") as file:
                for pid in map(int, file.read().split()):
                    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as line:
                        found["wsson" if line.read().startswith(BINARY) else "worker"] = pid
        return found

    def end(self, which, number):
        """Ends one of them, and waits until another one is there in its place."""
        pid = self.children()[which]
        os.kill(pid, number)
        wait(f"another {which} is there", lambda: self.children().get(which, pid) != pid)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        shutil.rmtree(self.folder)
        return code


class Window(demo_page.Tab):
    def come_in(self, name):
        self.run(f"{{ document.getElementById('name').value = {json.dumps(name)}; document.forms[0].submit() }}")
        return wait(f"{name} is in", lambda: self.text("#state") == "Connected")

    def type(self, text):
        self.run(f"{{ const text = document.getElementById('text'); text.value = {json.dumps(text)}; text.dispatchEvent(new Event('input')) }}")

    def say(self, text):
        self.type(text)
        self.run("document.getElementById('form').requestSubmit()")

    def lines(self):
        """What stands in the log, without what is still pending."""
        return self.run("Array.from(document.querySelectorAll('#log li:not(.pending) span'), span => span.textContent)")

    def pending(self):
        return self.run("document.querySelectorAll('#log .pending').length")

    def here(self):
        return self.run("Array.from(document.querySelectorAll('#here span'), span => span.textContent)")


def talk(language, chat, ann, mo):
    """Lines all the time, while the worker dies and wsson restarts."""
    said = []

    def both(count):
        for _ in range(count):
            for window, name in ((ann, "Ann"), (mo, "Mo")):
                said.append(f"{name} says {len(said)}")
                window.say(said[-1])
            time.sleep(0.05)

    both(3)
    chat.end("worker", signal.SIGKILL)
    both(2)
    wait("the lines are there", lambda: ann.pending() == mo.pending() == 0)
    os.kill(chat.children()["worker"], signal.SIGSTOP)
    both(2)
    stopped = chat.children()["worker"]
    chat.end("worker", signal.SIGKILL)
    check(f"chat in {language}: the worker that hung is gone", os.path.exists(f"/proc/{stopped}"), False)
    both(1)
    wait("the lines are there", lambda: ann.pending() == mo.pending() == 0)
    chat.end("wsson", signal.SIGTERM)
    both(2)
    for window, name in ((ann, "Ann"), (mo, "Mo")):
        wait(f"{name}'s lines are there", lambda: window.pending() == 0)
        wait(f"{name} has all lines", lambda: len(set(window.lines())) >= len(said))
        check(f"chat in {language}: {name} has each line once", sorted(window.lines()), sorted(said))
    order = [[line for line in ann.lines() if line.startswith(name)] for name in ("Ann", "Mo")]
    check(f"chat in {language}: the lines of each are in order", order, [said[0::2], said[1::2]])


def rooms(language, ann, mo):
    ann.run("document.querySelectorAll('#rooms button')[1].click()")
    wait("Mo is alone", lambda: mo.here() == ["Mo (you)"])
    wait("Ann is alone", lambda: ann.here() == ["Ann (you)"])
    ann.say("anybody in the kitchen?")
    wait("it is said", lambda: ann.lines() == ["anybody in the kitchen?"])
    check(f"chat in {language}: a room is a room", "anybody in the kitchen?" in mo.lines(), False)
    mo.run("document.querySelectorAll('#rooms button')[1].click()")
    wait("both are in the kitchen", lambda: ann.here() == ["Ann", "Mo (you)"] or ann.here() == ["Ann (you)", "Mo"])
    check(f"chat in {language}: what was said before", mo.lines(), ["anybody in the kitchen?"])
    mo.type("I am")
    wait("it is seen that Mo types", lambda: ann.text("#typing") == "Mo is typing")
    check(f"chat in {language}: it is no news to Mo", mo.text("#typing"), "")
    wait("it passes", lambda: ann.text("#typing") == "")
    check(f"chat in {language}: only a moderator may kick", ann.run("document.querySelectorAll('#here button').length"), 0)
    mo.run("document.querySelector('#here button').click()")
    wait("Ann is told", lambda: ann.text("#state") == "Mo asked you to leave")
    wait("Mo is alone", lambda: mo.here() == ["Mo (you)"])
    time.sleep(0.7)
    check(f"chat in {language}: Ann stays away", ann.text("#state"), "Mo asked you to leave")
    ann.run("document.getElementById('back').click()")
    wait("Ann is back", lambda: ann.text("#state") == "Connected" and len(mo.here()) == 2)
    ok(f"chat in {language}: rooms, who is here, typing, a kick")


def shots(language, ann, mo):
    if not SHOTS:
        return
    mo.type("Milk?")
    for name, window, width, height in (("wide", ann, 1100, 700), ("phone", ann, 390, 760), ("dark", mo, 1100, 700), ("phone-dark", mo, 390, 760)):
        window.shot(f"chat-{language}-{name}", width, height)


def visit(language, browsers):
    chat = Chat(language)
    try:
        ann, mo = (Window(browser.socket(), chat.url, scheme) for browser, scheme in zip(browsers, ("light", "dark")))
        ann.come_in("Ann")
        mo.come_in("Mo")
        wait("they see each other", lambda: ann.here() == ["Ann (you)", "Mo"] and mo.here() == ["Ann", "Mo (you)"])
        talk(language, chat, ann, mo)
        rooms(language, ann, mo)
        shots(language, ann, mo)
        complaints = [text for window in (ann, mo) for text in window.complaints if "WebSocket" not in text and "favicon" not in text and "404" not in text]
        check(f"chat in {language}: the browser does not complain", complaints, [])
    finally:
        check(f"chat in {language}: it ends well", chat.stop(), 0)


def test():
    with Browser() as one, Browser() as other:
        for language in ("php", "python", "node"):
            visit(language, (one, other))
    left = [name for name in ("worker.py", "worker.php", "worker.js")
            if sum(1 for _ in open(os.path.join(ROOT, "examples", "chat", name))) > 100]
    check("chat: a worker has at most 100 lines", left, [])


if __name__ == "__main__":
    test()
    demo_page.finish()
