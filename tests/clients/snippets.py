"""Runs the code blocks of README.md and COMMANDS.md that a comment marks, and checks what they do.

`<!-- run NAME -->` before a block: it is run as it stands, but for the places of a real installation, which are those of a
server of this test. `<!-- tour FILE -->` marks the files and commands of the tour, which is taken from start to end.
Each block must be expected here, and each expectation must have its block.
"""
import contextlib
import hashlib
import hmac
import http.client
import http.cookies
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import demo_page
import harness
from harness import BINARY, PATIENCE_S, ROOT, SECRET, Server, check, cookie_header, cookies, finish, free_port, not_ok, ok
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

# The one in the documents.
TOKEN = "32febad1f0cf83f38aceb31ad63866c4"
ORIGIN = "https://example.com"
BLOCK = re.compile(r"<!-- (run|tour|php) (\S+) -->\n```(\w+)\n(.*?)```\n", re.S)

WHOLE = ["Hello, everybody", "Hello, you"]
# Blocks that close the client: the reason that it sees, and the output.
KICKS = {"k-php": ("you have logged out", "1"), "k-sh": ("logged out", '17K{"connections":1}')}
# After each the login of the documents is refused, so each needs a server of its own.
REVOCATIONS = {"r-php": ("you have logged out", "1"), "r-sh": ("logged out", '17K{"connections":1}')}
# The messages that the client with the documents' token gets, and the output.
EXPECTED = {
    "first": (["Hello"], ""),
    "send": (WHOLE, ""),
    "b-php": (["Hello, World!!!", b"\x00\xff"], ""),
    "b-sh": (["Hello, World!!!", b"\x00\xff"], ""),
    "d-php": (["New message!", b"\xff"], ""),
    "d-sh": (["New message!", b"\xff"], ""),
    "c-php": (["Direct", b"\x00\xff"], f"{TOKEN} has it\n" * 2),
    "c-sh": (["Direct", b"\x00\xff"], f"32A{TOKEN}" * 2),
    "there-php": ([], "online\n"),
    "there-sh": ([], f"32A{TOKEN}"),
    "lock-php": (["Hello, World!"], "aaa"),
    "lock-sh": (["Hello, World!"], f"32A{TOKEN}0a0a0a"),
    "lock-binary-php": ([b"\x00\x01\x02\x03"], "Aaaa"),
    "lock-binary-sh": ([b"\x00\x01\x02\x03"], f"32A{TOKEN}0a0a0a"),
    "single-php": (["in one piece"], "Aa"),
    "single-sh": (["in one piece"], f"32A{TOKEN}0a"),
    "m-php": ([], "ws1.example.com"),
    "m-sh": ([], "15Mws1.example.com"),
    "t-php": ([], "1 clients are open\n"),
    "t-sh": ([], re.compile(r'\d+T\{"version":.*\}')),
    "p-php": ([], "P"),
    "p-sh": ([], "0P"),
    "q-php": ([], "P and closed"),
    "q-sh": ([], "0P"),
    "w-php": (["Hello, you", b"\x00\xff"], ""),
    "w-sh": (["Hello, you", b"\x00\xff"], ""),
    "x-php": (["New order"], "1 got it, not there: u:44\n"),
    "x-sh": (["New order!!"], '56X{"connections":1,"away":0,"absent":["u:44"],"refused":0}'),
    "v-php": (["Your order left"], re.compile(r"1 of 1 browsers have it, after \d+ ms\n")),
    "v-sh": (["Your order left"],
             re.compile(r'\d+V\{"id":"order-7","connections":1,"away":0,"absent":\[\],"refused":0,"arrived":1,"ms":\d+\}')),
    "arrived-sh": (["Your order left"], re.compile(r"1 of 1 connections have it, the last after \d+ ms\n")),
    "j-php": (["welcome"], "11"),
    "j-sh": (["welcome"], '17J{"connections":1}17J{"connections":1}'),
    "o-php": ([], f"* 1\nt:{TOKEN} 1\nu:44 0\n"),
    "o-sh": ([], '16O{"*":1,"u:44":0}'),
    "h-php": ([], f"{TOKEN} 1\n"),
    "h-sh": ([], f'72H{{"tokens":[{{"name":"{TOKEN}","connections":1}}]}}'),
    "e-php": ([], '{"event":"subscribed","pool":"chat","kinds":["message","open"]}'),
    "e-sh": ([], '63e{"event":"subscribed","pool":"chat","kinds":["message","open"]}'),
    "push-sh": (WHOLE, ""),
    "push-wsson": (WHOLE, ""),
    "push-php": (WHOLE, ""),
    "push-python": (WHOLE, ""),
    "push-node": (WHOLE, ""),
}
# Tested in hints.py, and by `users`.
ELSEWHERE = {"browser", "tabs", "user-wsson", "user-php", "ask-php", "rooms-php", "logout-php"}
RUNNERS = {"sh": ["sh", "-ec"], "python": [sys.executable, "-c"], "js": ["node", "-e"]}


def blocks(kind):
    """Marked blocks of both documents: name to (language, code)."""
    found = {}
    for name in ("README.md", "COMMANDS.md"):
        with open(os.path.join(ROOT, name)) as document:
            for mark, block, language, code in BLOCK.findall(document.read()):
                if mark == kind:
                    assert block not in found, f"two blocks are called {block}"
                    found[block] = (language, code)
    return found


def run(language, code, **more):
    """Runs a block of a language."""
    if language == "php":
        with tempfile.NamedTemporaryFile("w", suffix=".php") as file:
            file.write(code)
            file.flush()
            return subprocess.run(["php", file.name], capture_output=True, timeout=PATIENCE_S, **more)
    return subprocess.run([*RUNNERS[language], code], capture_output=True, timeout=PATIENCE_S, **more)


class Place:
    """A running server, and the documents' paths turned into its own."""

    def __init__(self, server):
        self.server = server
        self.control = server.control.removeprefix("unix:")
        self.secret = os.path.join(server.folder, "secret")
        with open(os.open(self.secret, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(SECRET + "\n")
        # `wsson`, without options, means this server.
        self.bin = os.path.join(server.folder, "bin")
        os.mkdir(self.bin)
        with open(os.open(os.path.join(self.bin, "wsson"), os.O_CREAT | os.O_WRONLY, 0o755), "w") as file:
            file.write(f'#!/bin/sh\ncommand=$1\nshift\nexec "{BINARY}" "$command" -c "{server.folder}/wsson.toml" "$@"\n')

    def code(self, text):
        return text.replace("/run/wsson/control.sock", self.control).replace("/etc/wsson/secret", self.secret)

    def run(self, language, text):
        if language == "php" and not text.startswith("<?php"):
            text = blocks("php")["prelude"][1] + text
        return run(language, self.code(text), env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"})

    @contextlib.contextmanager
    def client(self, header):
        with connect(f"ws://127.0.0.1:{self.server.port}/", additional_headers={"Cookie": header}, origin=ORIGIN,
                     compression=None) as client:
            yield client


def pushes(place):
    """Each block that sends, with a client that should get what it sends."""
    with place.client(cookie_header(cookies(TOKEN))) as client:
        for name, (language, text) in blocks("run").items():
            if name in EXPECTED:
                push(place, client, name, language, text)


def push(place, client, name, language, text):
    wanted, printed = EXPECTED[name]
    done = place.run(language, text)
    if done.returncode:
        return not_ok(f"snippet {name}", f"it ended with {done.returncode}: {done.stderr.decode()}")
    output = done.stdout.decode()
    if not (printed.fullmatch(output) if isinstance(printed, re.Pattern) else printed == output):
        return not_ok(f"snippet {name}", f"it printed {output!r}")
    # The mark behind the last message: without it one too many would not be seen.
    with place.server.backend() as backend:
        backend.command("b", b"end")
    got = []
    try:
        while (message := client.recv(timeout=PATIENCE_S)) != "end":
            got.append(message)
    except TimeoutError:
        return not_ok(f"snippet {name}", f"only {got!r} came")
    # Two programs one after the other are two connections: their order is not promised.
    check(f"snippet {name}", sorted(got, key=repr), sorted(wanted, key=repr))


def kicks(place, expected):
    """Each block that closes a client, with a client of its own."""
    for name, (reason, printed) in expected.items():
        with place.client(cookie_header(cookies(TOKEN))) as client:
            done = place.run(*blocks("run")[name])
            check(f"snippet {name}: it ends well", (done.returncode, done.stderr), (0, b""))
            check(f"snippet {name}: what it prints", done.stdout.decode(), printed)
            try:
                got = client.recv(timeout=PATIENCE_S)
                not_ok(f"snippet {name}", f"it got {got!r}")
            except ConnectionClosed as closed:
                check(f"snippet {name}: the close", (closed.rcvd.code, closed.rcvd.reason), (4001, reason))


def served_by_php(code):
    """The Set-Cookie values of a page under PHP's own web server."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "index.php"), "w") as file:
            file.write(code)
        with php_server(folder, folder) as port:
            return fetch(port)[0]


@contextlib.contextmanager
def php_server(folder, site, host="127.0.0.1"):
    port = free_port()
    process = subprocess.Popen(["php", "-S", f"{host}:{port}", "-t", site], cwd=folder, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def fetch(port):
    """Set-Cookie values and body of the page, as soon as a server listens."""
    end = time.monotonic() + PATIENCE_S
    while True:
        connection = http.client.HTTPConnection("localhost", port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            return response.headers.get_all("Set-Cookie"), response.read().decode()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        finally:
            connection.close()


def cookie_values(fields):
    jar = http.cookies.SimpleCookie()
    for field in fields:
        jar.load(field)
    return {name: morsel.value for name, morsel in jar.items()}


def login(place, name, fields):
    """The cookies that a site set must open a WebSocket, and must be hidden from scripts."""
    hidden = [field for field in fields if "httponly" in field.lower() and "samesite=lax" in field.lower()]
    check(f"snippet {name}: three careful cookies", len(hidden), 3)
    try:
        with place.client(cookie_header(cookie_values(fields))):
            ok(f"snippet {name}: they log in")
    except InvalidStatus as error:
        not_ok(f"snippet {name}: they log in", error)


def user_cookies(user):
    values = {**cookies(TOKEN), "user": user}
    signed = SECRET + user + values["token"] + values["time"]
    return {**values, "digest": hashlib.md5(signed.encode()).hexdigest()}


def users():
    """The blocks about users, on a server whose logins have one. `push` is that of its own block."""
    marked = blocks("run")
    head = marked["push-php"][1]
    head = head[: head.index("\npush(")]
    ask = marked["ask-php"][1]
    asking = ask[: ask.index("\necho ask(") + 1]
    with Server([ORIGIN], top=["[auth]", 'identity = "user"']) as server:
        place = Place(server)

        def run_block(name, code):
            done = place.run(marked[name][0], code)
            check(f"snippet {name}: it ends well", (done.returncode, done.stderr.decode()), (0, ""))
            return done.stdout.decode()

        with place.client(cookie_header(user_cookies("44"))) as client:
            check("snippet user-wsson: it prints", run_block("user-wsson", marked["user-wsson"][1]), "u:44  1\n44  1\n")
            check("snippet user-wsson: it sends", client.recv(timeout=PATIENCE_S), "Hello, you")
            run_block("user-php", f"{head}\n{marked['user-php'][1]}")
            got = [client.recv(timeout=PATIENCE_S) for _ in range(3)]
            check("snippet user-php: it sends", got, ["Hello, you", "Three new orders", "Everybody but one"])
            check("snippet ask-php: it prints", run_block("ask-php", ask), "1 connections\n44 is there\n")
            both = f"{head}\n{asking.removeprefix('<?php')}"
            check("snippet rooms-php: it prints", run_block("rooms-php", f"{both}{marked['rooms-php'][1]}"), "44 are in it\n")
            check("snippet rooms-php: it sends", client.recv(timeout=PATIENCE_S), "Welcome to room 7")
            code = f"{asking}$token = '{TOKEN}';\n{marked['logout-php'][1]}"
            check("snippet logout-php: it prints", run_block("logout-php", code), "1 closed\n")
            try:
                client.recv(timeout=PATIENCE_S)
                not_ok("snippet logout-php: the page is closed", "a message came")
            except ConnectionClosed as closed:
                found = (closed.rcvd.code, closed.rcvd.reason)
                check("snippet logout-php: the page is closed", found, (4001, "you have logged out"))
        try:
            with place.client(cookie_header(user_cookies("44"))):
                not_ok("snippet logout-php: the cookies are refused", "they log in")
        except InvalidStatus as error:
            check("snippet logout-php: the cookies are refused", error.response.status_code, 403)
        server.stop()
        check("snippet ask-php: without wsson", run_block("ask-php", ask), "0 connections\n")
        server.again()


def logins(place):
    marked = blocks("run")
    login(place, "login-php", served_by_php(place.code(marked["login-php"][1])))
    for name, show in (("login-python", "\nimport json\nprint(json.dumps(login_cookies()))"),
                       ("login-node", "\nconsole.log(JSON.stringify(loginCookies()));")):
        language, code = marked[name]
        done = place.run(language, code + show)
        if done.returncode:
            not_ok(f"snippet {name}", done.stderr.decode())
        else:
            login(place, name, json.loads(done.stdout))


def digests():
    """The HMAC of each language, compared with Python's and judged by wsson."""
    secret, token, issued = "a secret for tests only", TOKEN, str(int(time.time()))
    values = {"secret": secret, "token": token, "time": issued, "issued": issued}
    preludes = {
        "php": "<?php " + "".join(f"${name} = '{value}'; " for name, value in values.items()),
        "python": "import hmac\n" + "".join(f"{name} = {value!r}\n" for name, value in values.items()),
        "js": "const crypto = require('crypto'), " + ", ".join(f"{n} = '{v}'" for n, v in values.items()) + ";\n",
    }
    shows = {"php": "echo $digest;", "python": "print(digest, end='')", "js": "process.stdout.write(digest);"}
    expected = hmac.new(secret.encode(), f"{token}\n{issued}".encode(), hashlib.sha256).hexdigest()
    for name, (language, code) in blocks("run").items():
        if name.startswith("hmac-"):
            done = run(language, preludes[language] + code + shows[language])
            check(f"snippet {name}", done.stdout.decode() or done.stderr.decode(), expected)
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "wsson.toml")
        with open(os.open(config, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(f'secret = "{secret}"\norigins = "{ORIGIN}"\n[auth]\ndigest = "hmac-sha256"\n')
        header = cookie_header({"token": token, "time": issued, "digest": expected})
        done = subprocess.run([BINARY, "cookie", "-c", config, "--verify", header], capture_output=True)
        check("snippet hmac: wsson accepts it", done.returncode, 0)


def tour_in_browser(browser, url, shell, send):
    items = "Array.from(document.querySelectorAll('#messages li'), item => item.textContent)"

    def opened(tab):
        return demo_page.wait("the tour's page is connected", lambda: "(connected)" in (tab.run(items) or []))

    tab = browser.tab(url)
    opened(tab)
    token = tab.text("code")
    check("tour: the page shows a token", len(token), 32)
    shell(send)
    demo_page.wait("the tour's messages", lambda: len(tab.run(items)) == 3)
    check("tour: the messages are in the page", sorted(tab.run(items)), ["(connected)", "Hello", "Hello again"])
    shell(f"wsson send -c wsson.toml --token {token} --confirm 'Hello, you'")
    demo_page.wait("the tour's direct message", lambda: "Hello, you" in tab.run(items))

    tab.call("Page.reload")
    demo_page.wait("the page is loaded again", lambda: tab.run("document.readyState") == "complete" and len(tab.run(items)) == 1)
    check("tour: F5 keeps the token", tab.text("code"), token)
    second = browser.tab(url)
    opened(second)
    check("tour: a second tab keeps the token", second.text("code"), token)
    shell("wsson restart -c wsson.toml")
    for page in (tab, second):
        demo_page.wait("the tour's page comes back", lambda: page.run(items).count("(connected)") == 2)
    shell(f"wsson send -c wsson.toml --token {token} --confirm 'to both'")
    for page in (tab, second):
        demo_page.wait("both tabs are reached", lambda: "to both" in page.run(items))


def tour():
    """The five-minute tour, with free ports, to the message in a browser."""
    parts = blocks("tour")
    folder = tempfile.mkdtemp(prefix="wsson-tour-")
    os.mkdir(os.path.join(folder, "bin"))
    os.symlink(BINARY, os.path.join(folder, "bin", "wsson"))
    env = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    site_port, ws_port = free_port(), free_port()

    def here(text):
        return text.replace("8000", str(site_port)).replace("8099", str(ws_port))

    def shell(code, cwd):
        done = subprocess.run(["sh", "-ec", code], cwd=cwd, env=env, capture_output=True, timeout=PATIENCE_S)
        check(f"tour: {code.splitlines()[0]}", (done.returncode, done.stderr.decode()), (0, ""))

    shell(parts["secret"][1], folder)
    place = os.path.join(folder, "tour")
    for name in ("wsson.toml", "site/index.php"):
        with open(os.path.join(place, name), "w") as file:
            file.write(here(parts[name][1]))
    *start, serve = here(parts["start"][1]).splitlines()
    site = subprocess.Popen(["sh", "-c", f"exec {serve}"], cwd=place, env=env, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        for command in start:
            shell(command, place)
        with demo_page.Browser() as browser:
            tour_in_browser(browser, f"http://localhost:{site_port}/", lambda command: shell(command, place), parts["send"][1])
        check("tour: the log is where it says", os.path.exists(os.path.join(place, "wsson.log")), True)
        shell("wsson status -c wsson.toml", place)
        shell("wsson stop -c wsson.toml", place)
    finally:
        site.terminate()
        site.wait(PATIENCE_S)
        # If something went wrong the server still runs.
        subprocess.run(["wsson", "stop", "-c", "wsson.toml"], cwd=place, env=env, capture_output=True)
        shutil.rmtree(folder)


INIT = {
    "php": None,
    "python": "\nimport json\nprint(json.dumps(login_cookies()))",
    "node": "\nconsole.log(JSON.stringify(loginCookies()));",
}


def init():
    """What `wsson init` writes starts, and the login that it prints is let in."""
    for language, show in INIT.items():
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            config = os.path.join(folder, "wsson.toml")
            wsson = [BINARY, "init", "-c", config, "--origin", ORIGIN, "--language", language, "--server", f"tcp://127.0.0.1:{port}"]
            told = subprocess.check_output(wsson, text=True)
            code = re.search(r"sets three cookies \(\w+\):\n\n(.*?)\n\n2\. ", told, re.S)[1]
            subprocess.run([BINARY, "start", "-c", config], check=True)
            try:
                runner = {"python": "python", "node": "js"}.get(language)
                fields = json.loads(run(runner, code + show).stdout) if show else served_by_php(code)
                cookie = cookie_header(cookie_values(fields))
                with connect(f"ws://127.0.0.1:{port}/ws", additional_headers={"Cookie": cookie}, origin=ORIGIN, compression=None) as client:
                    subprocess.run([BINARY, "send", "-c", config, "--all", "Hello"], check=True)
                    check(f"init: a {language} login gets a message", client.recv(timeout=PATIENCE_S), "Hello")
            except InvalidStatus as error:
                not_ok(f"init: a {language} login is let in", error)
            finally:
                subprocess.run([BINARY, "stop", "-c", config], check=True)


def test():
    known = {*EXPECTED, *KICKS, *REVOCATIONS, "login-php", "login-python", "login-node", "hmac-php", "hmac-python", "hmac-node", *ELSEWHERE}
    check("snippets: each is tested", set(blocks("run")) ^ known, set())
    with Server([ORIGIN], top=['domains = ["ws2.example.com:8099", "ws1.example.com"]']) as server:
        place = Place(server)
        pushes(place)
        kicks(place, KICKS)
        logins(place)
    for name, outcome in REVOCATIONS.items():
        with Server([ORIGIN]) as server:
            kicks(Place(server), {name: outcome})
    users()
    digests()
    init()
    tour()


if __name__ == "__main__":
    test()
    finish()
