"""Real clients and real backends against the release binary.

usage: run.py [python] [node] [php] [shell] [curl] [chromium] [demo] [chat] [nginx] [tabs] [snippets] [signed] [encoders] [survive] [hints] [http] [attacks] [backends]

All of them without a name.
"""
import os
import sys

import chat_page
import chromium
import demo_page
import encoders
import harness
import hints
import http_attacks
import http_clients
import nginx
import signed
import snippets
import survive
import tabs
from harness import CACHE, Server, cookie_header, cookies, fresh_token, not_ok, ok, run
from websockets.sync.client import connect

HERE = os.path.dirname(os.path.abspath(__file__))
ORIGIN = "https://example.com"


def script(name):
    return os.path.join(HERE, name)


CLIENTS = {
    "python": [sys.executable, script("client.py")],
    "node": ["node", script("client.js")],
    "php": ["php", script("client.php")],
    "shell": ["bash", script("client.sh")],
    "curl": ["bash", script("client_curl.sh")],
}
BACKENDS = {
    "python": [sys.executable, script("backend.py")],
    "node": ["node", script("backend.js")],
    "php": ["php", script("backend.php")],
    "shell": ["bash", script("backend.sh")],
}


def environment(server):
    good = cookies()
    return {
        "WS_PORT": str(server.port),
        "CONTROL": server.control,
        "ORIGIN": ORIGIN,
        "TOKEN": good["token"],
        "COOKIE": cookie_header(good),
        "BAD_COOKIE": cookie_header({**good, "digest": "0" * 32}),
        "NODE_PATH": os.path.join(CACHE, "node", "node_modules"),
    }


def clients(names):
    chosen = [name for name in CLIENTS if name in names]
    if chosen:
        with Server([ORIGIN], top=['on_message = "echo"'], limits=["message = 1048576", "outbox = 4194304"]) as server:
            for name in chosen:
                run(f"{name} client", CLIENTS[name], environment(server))


def watch(name, url, env):
    """The messages that a browser gets while a backend's script runs."""
    headers = {"Cookie": env["COOKIE"]}
    with connect(url, additional_headers=headers, origin=ORIGIN, compression=None) as browser:
        run(f"{name} backend", BACKENDS[name[: name.index(" ")]], env)
        expected = [
            "hällo to all", b"\x00\xff", "direct €", b"\xff\x00", "confirmed", "one two three", b"\x00\x01\x02",
            "one shot",
        ]
        for message in expected:
            try:
                found = browser.recv(timeout=10)
            except TimeoutError:
                return not_ok(f"{name} backend's messages arrive", f"{message!r} did not come")
            if found != message:
                return not_ok(f"{name} backend's messages arrive", f"found {found!r}, expected {message!r}")
        ok(f"{name} backend's messages arrive")


def backends():
    for kind in ("unix", "tcp"):
        with Server([ORIGIN], control=kind) as server:
            for language in BACKENDS:
                env = {**environment(server), "STRANGER": fresh_token(), "NAME": f"{language} over {kind}"}
                watch(f"{language} over {kind}", f"ws://127.0.0.1:{server.port}/", env)


def main():
    everything = [*CLIENTS, "chromium", "demo", "chat", "nginx", "tabs", "snippets", "signed", "encoders", "survive", "hints", "http", "attacks", "backends"]
    names = sys.argv[1:] or everything
    if unknown := [name for name in names if name not in everything]:
        sys.exit(f"unknown: {' '.join(unknown)}; known: {' '.join(everything)}")
    clients(names)
    if "backends" in names:
        backends()
    if "nginx" in names:
        nginx.test()
    if "chromium" in names:
        chromium.test()
    if "demo" in names:
        demo_page.test()
    if "chat" in names:
        chat_page.test()
    if "snippets" in names:
        snippets.test()
    if "tabs" in names:
        tabs.test()
    if "signed" in names:
        signed.test()
    if "encoders" in names:
        encoders.test()
    if "survive" in names:
        survive.test()
    if "hints" in names:
        hints.test()
    if "http" in names:
        http_clients.test()
    if "attacks" in names:
        http_attacks.test()
    harness.finish()


main()
