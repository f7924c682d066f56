"""Row 29: tabs. Two pages with one tab, a stolen tab with another login, thousands of tabs, pages that confirm nothing; and
what the design promises of many that come back at once.
"""
import itertools
import time

from report import Aftermath, at_most, is_so, row
from rig.peers import close_all, dial, frame, read_head, take_frame, TEXT, PING
from rig.server import MIB, Server, eventually, head

OFFERS = "Sec-WebSocket-Protocol: wsson.fresh, wsson.resumed\r\n"


def request(token, tab, more=OFFERS):
    path = f"/?tab={tab}" if tab else "/"
    return head(token, more=more).replace(b"GET / ", f"GET {path} ".encode(), 1)


def come(server, token, tab):
    """A page's connection, and what it was told: `fresh` or `resumed`."""
    connection = dial(server)
    connection.sendall(request(token, tab))
    answer = read_head(connection)
    told = answer.partition(b"Sec-WebSocket-Protocol: wsson.")[2].partition(b"\r\n")[0]
    return connection, told.decode() or answer[:30].decode(errors="replace")


def crowd(server, count, tab, at_once=250):
    """As many logins, each with a page of that tab; what they were told."""
    opened, told = [], set()
    for begin in range(0, count, at_once):
        batch = []
        for place in range(begin, min(begin + at_once, count)):
            connection = dial(server)
            connection.sendall(request(f"{place:032d}", tab))
            batch.append(connection)
        for connection in batch:
            answer = read_head(connection)
            told.add(answer.partition(b"Sec-WebSocket-Protocol: wsson.")[2].partition(b"\r\n")[0].decode() or answer[:40].decode())
        opened += batch
    return opened, told


def texts(connection, last, patience_s=30):
    """The messages up to this one; pings are answered."""
    buffer, got, end = bytearray(), [], time.monotonic() + patience_s
    while (not got or got[-1] != last) and time.monotonic() < end:
        connection.settimeout(0.5)
        try:
            more = connection.recv(65536)
        except TimeoutError:
            continue
        if not more:
            break
        buffer += more
        while found := take_frame(buffer):
            if found[0] == TEXT:
                got.append(found[1])
            elif found[0] == PING:
                connection.sendall(frame(0x8A, found[1]))
    return got


def away(server, count, patience_s=30):
    return eventually(lambda: server.status()["away"] == count, patience_s)


@row(29)
def tabs(quick):
    with Server() as server:
        aftermath = Aftermath(server)
        yield from two_pages(server, 100 if quick else 1000)
        yield from stolen(server, 200)
        yield from many_names(server, 2000 if quick else 10_000)
        yield from aftermath.figures()
    with Server(limits=['queued = "64 MiB"']) as server:
        yield from deaf_pages(server, 500)
    count = 2000 if quick else 10_000
    yield from memory(count)
    yield from all_reload(count)


def two_pages(server, times):
    """They take the connection from each other, while messages come."""
    token, seen, closed, numbers = "2" * 32, set(), 0, itertools.count()
    pages = [come(server, token, "same")[0]]
    with server.backend() as backend:
        for _ in range(times):
            number = b"%d" % next(numbers)
            backend.ask("c", token.encode() + number)
            new, told = come(server, token, "same")
            seen.update(texts(new, number))
            closed += told == "resumed"
            pages[-1].close()
            pages.append(new)
    yield is_so(f"two pages of one tab take it from each other {times} times: messages that neither has got", times - len(seen), 0)
    yield is_so("↳ resumed", closed, times)
    close_all(pages)
    with server.backend() as backend:
        backend.ask("k", b"*")


def stolen(server, logins):
    """The victim's tab is away, with messages for it."""
    victim = "v" * 32
    come(server, victim, "stolen")[0].close()
    away(server, 1)
    with server.backend() as backend:
        for place in range(10):
            backend.ask("c", b"%ssecret %d" % (victim.encode(), place))
        thieves, told = crowd(server, logins, "stolen")
        backend.ask("x", b"*,-t:%s end" % victim.encode())
        got = [text for thief in thieves for text in texts(thief, b"end")]
        crossed = sum(text.startswith(b"secret") for text in got)
        yield is_so(f"{logins} other logins come with the victim's tab: messages of the victim that they got", crossed, 0)
        yield is_so("↳ what they were told", sorted(told), ["fresh"])
        back, told = come(server, victim, "stolen")
        yield is_so("↳ the victim is told, and got", (told, len(texts(back, b"secret 9"))), ("resumed", 10))
        close_all([*thieves, back])
        backend.ask("k", b"*")


def many_names(server, count):
    """One login with a new tab each time; and as many logins."""
    before = server.memory()
    for place in range(count // 4):
        come(server, "n" * 32, f"name-{place}")[0].close()
    eventually(lambda: server.status()["clients"] == 0)
    yield at_most(f"{count // 4} tabs of one login, one after the other: tabs that are away", server.status()["away"], 5, "tabs")
    opened, _ = crowd(server, count, "tab")
    close_all(opened)
    eventually(lambda: server.status()["clients"] == 0)
    status = server.status()
    yield at_most(f"{count} logins with a tab each go: tabs that are away", status["away"], status["away_max"], "tabs")
    yield at_most("↳ RSS", (server.memory() - before) / MIB, 8, "MiB more")
    with server.backend() as backend:
        backend.ask("k", b"*")


def deaf_pages(server, count):
    """They read everything and confirm nothing."""
    server_before = server.memory()
    opened, _ = crowd(server, count, "deaf")
    message = b"x" * 4000
    with server.backend() as backend:
        for turn in range(400):
            backend.command("b", message)
            if turn % 10 == 9:
                for connection in opened:
                    connection.setblocking(False)
                    try:
                        while connection.recv(65536):
                            pass
                    except BlockingIOError:
                        pass
        backend.ask("p")
    status = server.status()
    yield is_so(f"{count} pages that read 1.6 MB each and confirm nothing: still open", status["clients"], count)
    yield at_most("↳ kept for all of them", status["queued_bytes"] / MIB, 64, "MiB")
    yield at_most("↳ RSS", (server.memory() - server_before) / MIB, 70, "MiB more")
    close_all(opened)
    eventually(lambda: server.status()["clients"] == 0)
    yield is_so("↳ tabs that are away without a gap", server.status()["away"], 0)


def memory(count):
    """Of open connections with and without a tab, and of tabs that are away with the same broadcasts."""
    used = {}
    for tab in (None, "tab"):
        with Server(limits=["clients = 19000"]) as server:
            Aftermath(server)
            before = server.memory()
            opened, _ = crowd(server, count, tab)
            used[tab] = (server.memory() - before) / count
            close_all(opened)
    yield at_most(f"{count} open connections: RSS of one with a tab, more than of one without", used["tab"] - used[None], 160, "B")
    yield "↳ of one without", f"{used[None]:.0f} B", "≤ 256 B with all that a connection takes", None
    with Server(limits=["clients = 19000", f"away = {count}"], timeouts=["away = 300"]) as server:
        opened, _ = crowd(server, count, "tab")
        close_all(opened)
        away(server, count)
        before, message = server.memory(), b"y" * 1000
        with server.backend() as backend:
            for _ in range(10):
                backend.command("b", message)
            backend.ask("p")
        status = server.status()
        yield is_so(f"{count} tabs are away and 10 broadcasts of 1 kB come: away", status["away"], count)
        yield at_most("↳ kept for all of them", status["queued_bytes"] / 1024, 64, "KiB")
        yield at_most("↳ RSS", (server.memory() - before) / MIB, 1, "MiB more")


def all_reload(count):
    """All pages go and come back, as fast as one process can do both, while messages are sent to all."""
    with Server(limits=["clients = 19000", f"away = {count}"]) as server, server.backend() as backend:
        opened, told = crowd(server, count, "tab")
        yield is_so(f"{count} pages come: told", sorted(told), ["fresh"])
        backend.command("b", b"before")
        backend.ask("p")
        begin = time.monotonic()
        close_all(opened)
        backend.command("b", b"between")
        opened, told = crowd(server, count, "tab")
        took_s = time.monotonic() - begin
        backend.command("b", b"after")
        backend.ask("p")
        yield is_so("↳ they reload: told", sorted(told), ["resumed"])
        missed = sum(texts(page, b"after")[-3:] != [b"before", b"between", b"after"] for page in opened)
        yield is_so("↳ pages that missed one of three broadcasts, sent before, between and after", missed, 0)
        yield "↳ all of it took", f"{took_s:.2f} s", "none: the pages are one process in Python", None
        yield is_so("↳ resumed", server.status()["resumed"], count)
        close_all(opened)
