"""The page of `wsson demo` in headless Chromium, driven over the DevTools protocol.

Visits it as two users, one of them in two tabs: reads what arrives, runs every command that it shows (messages, the room,
who is here, a kick), restarts the demo under it, and looks for violations of the Content-Security-Policy. Prints `ok NAME` or `not ok NAME: why` as every client test does.
SHOTS=FOLDER keeps screenshots of it there.
"""
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import chromium
import harness
from harness import BINARY, PATIENCE_S, check, finish, free_port, not_ok, ok
from websockets.sync.client import connect

SHOTS = os.environ.get("SHOTS")
NASTY = "it's \"quoted\" \\ $HOME `x` %s wörld 𐍈"


# For the end, if a test does not get there.
running = []


class Demo:
    """The demo, on a port that a second one can have again."""

    def __init__(self, port):
        self.folder = tempfile.mkdtemp(prefix="wsson-demo-test-")
        self.process = subprocess.Popen(
            [BINARY, "demo", "--port", str(port)],
            stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": self.folder}, text=True,
        )
        running.append(self)
        self.text = ""
        while "Ctrl-C" not in self.text:
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"the demo did not start: {self.text}")
            self.text += line
        self.control = re.search(r"nc -NU (\S+)", self.text)[1]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE_S)
        running.remove(self)
        left = os.listdir(self.folder)
        shutil.rmtree(self.folder)
        self.process.stdout.close()
        return code, left


class Browser:
    """Headless Chromium with an empty profile."""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="wsson-chromium-")
        self.process = chromium.browser("about:blank", self.profile, "--remote-debugging-port=0")
        if self.process is None:
            sys.exit("not ok demo page: chromium is not installed")
        path = os.path.join(self.profile, "profile", "DevToolsActivePort")
        wait("chromium starts", lambda: os.path.exists(path) and open(path).read().count("\n") == 1)
        self.port = int(open(path).readline())
        self.tabs = contextlib.ExitStack()
        return self

    def tab(self, url, scheme="light"):
        return Tab(self.socket(), url, scheme)

    def socket(self):
        """The DevTools of a new tab."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        return self.tabs.enter_context(connect(address, max_size=2**26, compression=None))

    def __exit__(self, *_):
        self.tabs.close()
        chromium.end(self.process)
        shutil.rmtree(self.profile, ignore_errors=True)


class Tab:
    def __init__(self, socket, url, scheme):
        self.socket = socket
        self.count, self.complaints = 0, []
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)
        wait("the page is there", lambda: self.run("location.href !== 'about:blank' && document.readyState") == "complete")

    def call(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == self.count:
                return answer["result"]
            self.note(answer)

    def note(self, event):
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(event["params"]["exceptionDetails"].get("text", "an exception"))
        elif event["method"] == "Log.entryAdded":
            self.complaints.append(event["params"]["entry"]["text"])

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)})?.textContent")

    def messages(self):
        """The newest first."""
        return self.run("Array.from(document.querySelectorAll('#log span'), entry => entry.textContent)")

    def here(self):
        """Names with what the page says of them."""
        return self.run("Object.fromEntries(Array.from(document.querySelectorAll('#here li'), li => [li.querySelector('b').textContent, li.querySelector('.soft').textContent]))")

    def shows(self, **names):
        return wait(f"it shows {names}, not {self.here()}", lambda: self.here() == names)

    def arrives(self, text):
        return wait(f"arrives: {text}", lambda: text in self.messages())

    def choose(self, to="*", kind="text", message=None, do="send"):
        for name, value in (("do", do), ("kind", kind)):
            self.run(f"document.querySelector('input[name={name}][value={value}]').click()")
        self.run(f"{{ const to = document.getElementById('to'); to.value = {json.dumps(to)}; to.dispatchEvent(new Event('input', {{bubbles: true}})) }}")
        check(f"demo page: {to} can be chosen", self.run("document.getElementById('to').value"), to)
        if message is not None:
            field = "const field = document.getElementById('message');"
            event = "field.dispatchEvent(new Event('input', {bubbles: true}))"
            self.run("{" + f"{field} field.value = {json.dumps(message)}; {event}" + "}")

    def front(self):
        """A tab behind another one is not painted, and may not use the clipboard."""
        self.call("Page.bringToFront")

    @contextlib.contextmanager
    def wide(self, width, height):
        """Another size of the window; a narrow one is a phone's."""
        self.front()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        yield
        self.call("Emulation.clearDeviceMetricsOverride")

    def shot(self, name, width, height):
        if SHOTS:
            with self.wide(width, height):
                data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            with open(os.path.join(SHOTS, f"demo-{name}.png"), "wb") as file:
                file.write(base64.b64decode(data))

    def press_enter(self):
        """In what has the focus, as a keyboard does."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)


def wait(what, condition):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    not_ok(f"demo page: {what}", f"not within {PATIENCE_S} s")
    return False


RUNNERS = {
    "shell": ["sh", "-c"],
    "wsson": ["sh", "-c"],
    "curl": ["sh", "-c"],
    "php": ["php", "-r"],
    "python": [sys.executable, "-c"],
    "node": ["node", "-e"],
}


def run_shown(tab, language):
    """Runs a command as the tab shows it; None when it failed, else what it printed."""
    command = tab.text(f"#{language}")
    done = subprocess.run([*RUNNERS[language], command], capture_output=True, timeout=PATIENCE_S)
    if done.returncode:
        return not_ok(f"demo page: {language}", f"{command} ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


def messages(tabs, others, to, kind, message):
    """Each command reaches these tabs and none of the others; each tells itself from the rest by the message."""
    for language in RUNNERS:
        marked = f"{language} to {to}, {kind}: {message}"
        tabs[0].choose(to, kind, marked)
        if run_shown(tabs[0], language) is None:
            continue
        data = marked.encode()
        expected = marked if kind == "text" else f"{len(data)} bytes: {data[:256].hex(' ')}"
        if all(tab.arrives(expected) for tab in tabs):
            ok(f"demo page: {language} sends {kind} to {to}")
        for tab in others:
            check(f"demo page: {language} sends {kind} to {to} only", expected in tab.messages(), False)


def button(tabs, other):
    """The button and the Enter key send, to all, to this user and to another one, as text and as binary."""
    for to, reached in (("*", [*tabs, other]), ("u:anna", tabs), ("*,-u:anna", [other])):
        for kind in ("text", "binary"):
            marked = f"by hand to {to}, {kind}"
            tabs[0].choose(to, kind, marked)
            tabs[0].run("document.getElementById('submit').click()")
            expected = marked if kind == "text" else f"{len(marked)} bytes: {marked.encode().hex(' ')}"
            if all(tab.arrives(expected) for tab in reached):
                ok(f"demo page: the button sends {kind} to {to}")
    tabs[0].choose("*", "text", "by Enter")
    tabs[0].front()
    tabs[0].run("document.getElementById('message').focus()")
    tabs[0].press_enter()
    if all(tab.arrives("by Enter") for tab in tabs):
        ok("demo page: Enter sends")


def press(tab, name, action):
    tab.run(f"Array.from(document.querySelectorAll('#here li')).find(li => li.querySelector('b').textContent === {json.dumps(name)})"
            f".querySelector('button[data-action={action}]').click()")


def room(anna, second, ben):
    """Joining, who is in it, a message to it, and leaving: by each command, and by the buttons."""
    for language in RUNNERS:
        anna.choose("u:ben", do="join")
        said = run_shown(anna, language)
        check(f"demo page: {language} is told that one joined", "1" in (said or ""), True)
        for tab in (anna, second, ben):
            tab.shows(anna="you, 2 tabs" if tab is not ben else "2 tabs", ben="you, 1 tab, in the room" if tab is ben else "1 tab, in the room")
        anna.choose("g:room", do="here")
        said = run_shown(anna, language) or ""
        check(f"demo page: {language} is told who is in the room", "ben" in said and "anna" not in said, True)
        anna.choose("u:ben", do="leave")
        run_shown(anna, language)
        ben.shows(anna="2 tabs", ben="you, 1 tab")
        ok(f"demo page: {language} joins and leaves the room")
    press(anna, "anna", "join")
    ben.shows(anna="2 tabs, in the room", ben="you, 1 tab")
    check("demo page: a button shows its frame", anna.text("#frame"), "11jroom u:anna")
    anna.arrives('{"connections":2}')
    messages([anna, second], [ben], "g:room", "text", NASTY)
    press(ben, "anna", "leave")
    ben.shows(anna="2 tabs", ben="you, 1 tab")
    anna.choose("*", do="here")
    anna.run("document.getElementById('submit').click()")
    wait("the answer tells who is here", lambda: any('"ben"' in text and '"anna"' in text for text in anna.messages()))
    check("demo page: a list is no question for who is here", anna.run("document.querySelector('#to option:nth-child(2)').disabled"), True)


def kicks(anna, second, ben):
    """A page that is kicked stays away until its visitor wants to come back."""
    for language in [*RUNNERS, "button"]:
        anna.choose("u:ben", do="kick", message="it's you & me")
        if language == "button":
            press(anna, "ben", "kick")
        else:
            run_shown(anna, language)
        wait(f"{language} kicks", lambda: ben.text("#state") == "Closed with 4001: it's you & me")
        for tab in (anna, second):
            tab.shows(anna="you, 2 tabs")
        check("demo page: it offers to come back", ben.text("#now"), "Come back")
        if language == "button":
            ben.shot("kicked", 1280, 500)
        ben.run("document.getElementById('now').click()")
        wait("it comes back", lambda: ben.text("#state") == "Connected")
        anna.shows(anna="you, 2 tabs", ben="1 tab")
        ok(f"demo page: {language} kicks")


def copying(browser, tab):
    """Copy copies, and says so on the button for a moment; where it may not, it selects."""
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": tab.run("location.origin")}
    tab.call("Browser.grantPermissions", **grant)
    tab.front()
    press = "document.querySelector('#shell').closest('dd').previousElementSibling.querySelector('button')"
    tab.run(f"{press}.click()")
    wait("Copy says that it copied", lambda: tab.run(f"{press}.textContent") == "Copied")
    check("demo page: Copy copies", tab.run("navigator.clipboard.readText()"), tab.text("#shell"))
    wait("Copy can be pressed again", lambda: tab.run(f"{press}.textContent") == "Copy")
    tab.run(f"navigator.clipboard.writeText = () => Promise.reject(); {press}.click()")
    wait("Copy selects", lambda: tab.run(f"{press}.textContent") == "Selected: now copy")
    check("demo page: without a clipboard it is selected", tab.run("getSelection().toString()"), tab.text("#shell"))


def lines(tab):
    """No option and no word is broken over two lines; nothing is wider than the window."""
    pieces = "Array.from(document.querySelectorAll('pre span'), span => [span.textContent, span.getClientRects().length"
    for width in (1280, 390):
        with tab.wide(width, 900):
            broken = tab.run(f"{pieces}, span.clientHeight > 30]).filter(([, parts, high]) => parts > 1 || high).map(([text]) => text)")
            options = [piece for piece in broken if piece.startswith("-") or len(piece) < 30]
            check(f"demo page: no word is broken at {width}", options, [])
            check(f"demo page: it fits into {width}", tab.run("document.documentElement.scrollWidth"), width)


def visit(browser, port):
    url = f"http://127.0.0.1:{port}/"
    demo = Demo(port)
    tabs = [browser.tab(url)]
    wait("it is somebody", lambda: tabs[0].run("location.pathname") == "/anna")
    ben = browser.tab(url, "dark")
    wait("the second tab is somebody else", lambda: ben.run("location.pathname") == "/ben")
    tabs.append(browser.tab(f"{url}anna", "dark"))
    for name, tab in zip(("anna", "ben", "anna"), (tabs[0], ben, tabs[1])):
        wait("it connects", lambda: tab.text("#state") == "Connected")
        tab.arrives(f"Welcome, {name}. You are logged in, and this message was pushed to you.")
        tab.shows(anna="2 tabs" if tab is ben else "you, 2 tabs", ben="you, 1 tab" if tab is ben else "1 tab")
    token = tabs[0].run("demo.token")
    check("demo page: two tabs of a user are one login", tabs[1].run("demo.token"), token)
    check("demo page: another user is another login", ben.run("demo.token") != token, True)
    check("demo page: scripts cannot read the cookies", tabs[0].run("document.cookie"), "")

    tabs[0].choose("u:anna", "text", "wörld")
    check("demo page: the frame counts bytes", tabs[0].text("#frame"), "13wu:anna wörld")
    messages([*tabs, ben], [], "*", "text", NASTY)
    messages(tabs, [ben], "u:anna", "text", NASTY)
    messages([*tabs, ben], [], "*", "binary", "bytes")
    messages(tabs, [ben], "u:anna", "binary", "bytes")
    button(tabs, ben)
    room(*tabs, ben)
    kicks(*tabs, ben)
    copying(browser, tabs[0])
    lines(tabs[0])
    markup = "<img src=x onerror=document.title=1> & <b>bold</b>"
    send(demo.control, markup)
    if tabs[0].arrives(markup):
        check("demo page: what arrives is text", tabs[0].run("document.querySelectorAll('#log img, #log b').length"), 0)

    for tab in tabs:
        tab.choose("*", "text", "Hello, wörld")
    press(tabs[0], "ben", "join")
    tabs[1].shows(anna="you, 2 tabs", ben="1 tab, in the room")
    tabs[1].choose("*", do="send")
    tabs[0].shot("light", 1280, 900)
    tabs[1].shot("dark", 1280, 900)
    tabs[0].shot("phone", 390, 1400)
    tabs[1].shot("phone-dark", 390, 1400)
    tabs[1].run("document.getElementById('user').value = 'Greta_7'; document.querySelector('#name button').click()")
    wait("it is somebody else now", lambda: tabs[1].run("location.pathname") == "/Greta_7" and tabs[1].text("#state") == "Connected")
    tabs[0].shows(anna="you, 1 tab", ben="1 tab, in the room", Greta_7="1 tab")
    tabs[1].run("document.getElementById('user').value = '<b>'; document.querySelector('#name button').click()")
    check("demo page: a name that is none is refused", tabs[1].run("[location.pathname, document.getElementById('user').validity.valid]"), ["/Greta_7", False])
    complaints = tabs[0].complaints + tabs[1].complaints + ben.complaints
    check("demo page: nothing to complain about", complaints, [])
    check("demo page: the demo ends and leaves nothing", demo.stop(), (0, []))

    wait("it sees the end", lambda: tabs[0].text("#state").startswith("Disconnected"))
    tabs[0].shot("disconnected", 1280, 700)
    tabs[0].shot("phone-disconnected", 390, 700)
    check("demo page: nothing can be sent meanwhile", tabs[0].run("document.getElementById('submit').disabled"), True)
    seen = set()
    wait("the retry time counts down", lambda: seen.add(tabs[0].text("#retry")) or len([s for s in seen if s.startswith("again in ")]) > 2)
    demo = Demo(port)
    tabs[0].run("document.getElementById('now').click()")
    for tab in tabs:
        wait("it connects again", lambda: tab.text("#state") == "Connected")
    fresh = tabs[0].run("demo.token")
    check("demo page: logged in again after a restart", fresh != token, True)
    tabs[0].shows(anna="you, 1 tab", ben="1 tab", Greta_7="1 tab")
    check("demo page: it shows the new control socket", demo.control in tabs[1].text("#shell"), True)
    send(demo.control, "back again")
    if all(tab.arrives("back again") for tab in tabs):
        ok("demo page: messages arrive after a restart")
    check("demo page: the demo ends again", demo.stop(), (0, []))


def send(control, message):
    with harness.Backend(f"unix:{control}") as backend:
        backend.command("b", message.encode())


def test():
    try:
        with Browser() as browser:
            visit(browser, free_port())
    finally:
        for demo in list(running):
            demo.stop()


if __name__ == "__main__":
    test()
    finish()
