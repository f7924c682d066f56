"""Rows, figures, and the table that is kept in the repository.

A figure is (what was done, what came out, the bound, whether it holds). What cargo's tests show already is not done
again: the table names the test.
"""
import json
import os
import platform
import re
import time

from rig.server import MIB, ROOT, eventually
from rig.peers import BINARY, Client, frame

# Row, what is shown there. Each name is looked up in the sources when the table is written.
ELSEWHERE = {
    1: ("src/auth/tests.rs", ["allows_the_origins_of_the_list_only"], "tests/it/auth.rs", ["only_the_exact_origins_are_let_in"]),
    2: ("src/auth/tests.rs", ["refuses_the_forgeries_of_the_page", "refuses_length_extensions"],
        "tests/it/auth.rs", ["a_digest_extended_by_its_padding_is_refused"]),
    3: ("src/auth/tests.rs", ["timing_does_not_tell_where_a_digest_differs"]),
    5: ("tests/it/auth.rs", ["spoilt_cookies_are_refused_and_the_answer_does_not_tell_why"],
        "tests/it/limits.rs", ["a_wrong_digest_does_not_tell_that_a_token_is_full"]),
    12: ("src/wire/http/tests.rs", ["refuses_what_smuggles"], "tests/it/handshake.rs", ["nothing_behind_a_refused_head_is_answered"]),
    13: ("tests/it/control.rs", ["what_does_not_fit_the_grammar_executes_nothing"]),
    14: ("tests/it/process.rs", ["sockets_have_their_modes"]),
    15: ("tests/daemon.rs", ["a_recycled_number_is_never_signalled", "a_link_in_place_of_the_pid_file_is_refused",
                             "of_fifty_starts_at_once_one_wins_and_all_are_told_the_truth"]),
    21: ("tests/sim/plan.rs", ["jump"], "tests/sim/main.rs", ["any_world_keeps_the_promises"]),
    27: ("tests/it/asked.rs", ["what_a_page_may_not_ask_for_is_refused_and_joins_nothing", "a_jwt_is_a_login_from_the_cookie_and_from_the_url"],
         "src/auth/jwt/tests.rs", ["every_other_algorithm_is_refused_before_anything_is_hashed", "a_member_that_stands_twice_has_no_meaning"]),
    28: ("tests/it/revoked.rs", ["a_revoked_login_does_not_come_back", "it_outlives_restart_and_reload", "a_torn_file_gives_every_whole_line",
                                 "what_an_administrator_writes_holds_after_a_reload", "what_was_answered_outlives_a_kill"]),
}
# The server gives memory back so long after a departure, and again after the next.
TIDY_S = 12
HEAD = """# What the attacks came to

Measured with `tests/lab/attack/run` on {date}, on {host}. The rows are those of the design's table of threats; all attacks
come over loopback sockets against the release binary, from processes of their own. Do not edit: the command writes it.

The clients, the attackers and the server share the processors, and `load` says what else they did.

| row | attack | measured | bound | |
|---|---|---|---|---|
"""


def row(number):
    def mark(function):
        function.row = number
        return function
    return mark


def rows_of(module):
    return {thing.row: thing for thing in vars(module).values() if hasattr(thing, "row")}


def at_most(what, found, bound, unit):
    return what, f"{found:.3g} {unit}", f"≤ {bound:.3g} {unit}", found <= bound


def is_so(what, found, wanted):
    return what, f"{found}", f"{wanted}", found == wanted


def elsewhere(number, root):
    """The line of a row that cargo's tests show."""
    places, parts = ELSEWHERE[number], []
    for path, names in zip(places[::2], places[1::2]):
        with open(os.path.join(root, path)) as file:
            text = file.read()
        if missing := [name for name in names if name not in text]:
            raise SystemExit(f"{path} has no {missing}: correct ELSEWHERE in tests/lab/attack/report.py")
        parts.append(f"`{path}`: " + ", ".join(names))
    return f"| {number} | not over sockets here | shown by {'; '.join(parts)} | | cited |"


def read(path):
    """The table's lines by row, as they were."""
    found = {}
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                if match := re.match(r"\| (\d+) \|", line):
                    found.setdefault(int(match[1]), []).append(line.rstrip("\n"))
    return found


def write(path, results):
    lines = read(path) | results | {number: [elsewhere(number, ROOT)] for number in ELSEWHERE}
    host = f"{os.cpu_count()} processors, Linux {platform.release().split('-')[0]}, load {os.getloadavg()[1]:.1f}"
    with open(path, "w") as file:
        file.write(HEAD.format(date=time.strftime("%Y-%m-%d"), host=host))
        file.writelines(line + "\n" for number in sorted(lines) for line in lines[number])


# The figures that have to be as before after each attack.

def warm(server):
    """Lets the server touch once what it keeps for good, so that growth later is the attack's."""
    with server.backend() as backend, Client(server, "w" * 32) as client:
        for size in (1, 60000):
            for letter in "cC":
                backend.ask(letter, b"w" * 32 + b"x" * size)
            backend.command("b", b"x" * size)
            client.send(frame(0x80 | BINARY, b"x" * size) + frame(0x89, b"x"))
        backend.ask("l", b"w" * 32)
        backend.ask("s", b"x")
        client.send(frame(0x88, b"\x03\xe8"))
        client.close_code()
    eventually(lambda: server.status()["closing"] == 0)


def adds_up(status):
    accepted = sum(listener["accepted"] for listener in status["listeners"])
    here = status["clients"] + status["unauthenticated"]
    return accepted == here + sum(status["closed"].values()) + sum(status["refused"].values())


class Aftermath:
    """Remembers how the server was, and says what an attack has left behind."""

    def __init__(self, server):
        warm(server)
        self.server = server
        self.descriptors = self.settled_descriptors()
        self.rss = server.memory()

    def settled_descriptors(self):
        eventually(lambda: self.server.status()["backends"] == 1, 5)
        counts = []
        eventually(lambda: counts.append(self.server.descriptors_open()) or len(counts) > 2 and len(set(counts[-3:])) == 1)
        return counts[-1]

    def is_quiet(self):
        status = self.server.status()
        return not any(status[name] for name in ("clients", "unauthenticated", "closing")) and status["backends"] == 1

    def figures(self, rss_max_mib=1.0):
        quiet = eventually(self.is_quiet, 40)
        status = self.server.status()
        left = self.settled_descriptors() - self.descriptors
        # The memory of freed blocks goes back some seconds after the last peer has left.
        eventually(lambda: self.server.memory() - self.rss <= rss_max_mib * MIB, TIDY_S, 0.1)
        grown = (self.server.memory() - self.rss) / MIB
        names = ("clients", "unauthenticated", "closing", "locks", "queued_bytes")
        rest = {name: status[name] for name in names if status[name]}
        ok = quiet and adds_up(status) and left == 0 and not rest
        found = f"adds up: {'yes' if adds_up(status) else 'no'}, descriptors {left:+d}" + (f", left: {json.dumps(rest)}" if rest else "")
        yield "↳ counters and descriptors afterwards", found, "yes, +0", ok
        yield "↳ RSS afterwards", f"{grown:+.2f} MiB", f"≤ +{rss_max_mib:.3g} MiB", grown <= rss_max_mib
