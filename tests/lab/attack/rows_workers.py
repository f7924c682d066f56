"""Row 30: workers that read nothing, die in the middle, confirm what they never got; clients that flood while there is none.

A pool of workers shares the clients; one of them misbehaves. What its clients say waits in the kernel and in its bound of
memory, and everybody else is served as if nothing were.
"""
import os
import selectors
import time

from report import Aftermath, at_most, is_so, row
from rig.peers import Background, Client, close_all, fleet, frame, percentile
from rig.server import MIB, Server, eventually

FORWARD = ['on_message = "forward"']
FLOOD_BYTES = 14_000  # of each client, in messages of 70 bytes with their header


def subscribe(server, wish):
    worker = server.backend()
    worker.socket.settimeout(60)
    letter, event = worker.ask("e", wish)
    if letter != "e" or b"subscribed" not in event:
        raise RuntimeError(f"not subscribed: {letter} {event}")
    return worker


def told(worker):
    """The next event's fields; pings are answered."""
    while found := worker.reply():
        letter, payload = found
        if letter == "p":
            worker.command("P")
        elif letter in "gG":
            return payload.split(b" ", 3)
    return None


def flood(clients, bytes_each, seconds):
    """Each client sends this much, as far as the server takes it; how much that was of each, in order of the clients, and when it began."""
    messages = [b"".join(frame(0x81, (b"%d.%d " % (place, number)).ljust(64, b"x")) for number in range(bytes_each // 70))
                for place, _ in enumerate(clients)]
    began = time.monotonic()
    sent, end = [0] * len(clients), began + seconds
    for client in clients:
        client.setblocking(False)
    while time.monotonic() < end:
        moved = 0
        for place, client in enumerate(clients):
            try:
                count = client.send(messages[place][sent[place]:sent[place] + 65536])
            except (BlockingIOError, ConnectionResetError, BrokenPipeError):
                continue
            sent[place] += count
            moved += count
        if not moved:
            time.sleep(0.05)
    return messages, sent, began


@row(30)
def bad_workers(quick):
    yield from hanging(quick)
    yield from nobody_there(quick)
    yield from beside_one_that_hangs(quick)


def hanging(quick):
    """Ten thousand clients speak to a worker that takes nothing."""
    count, bound = (1_000, 4 * MIB) if quick else (10_000, 16 * MIB)
    limits = [f'control_outbox = {bound}']
    with Server(top=FORWARD, limits=limits, timeouts=["worker = 3600", "control = 3600", "no_worker = 1"]) as server:
        aftermath = Aftermath(server)
        crowd = fleet(server, count)
        worker = subscribe(server, b"message")
        before = server.memory()
        server.forget_peak()
        _, sent, _ = flood(crowd, 32_000, 10 if quick else 30)
        grown = server.memory("VmHWM") - before
        yield at_most(f"{count} clients that say {sum(sent) // MIB} MiB to a worker that reads nothing: RSS grew at most by "
                      f"(limits.control_outbox is {bound // MIB} MiB)", grown / MIB, 1.1 * bound / MIB, "MiB")
        status = server.status()
        yield is_so("↳ of them still open; most are not read", (status["clients"], status["speakers_waiting"] > count // 2), (count, True))
        took = []
        for _ in range(100):
            begin = time.monotonic()
            Client(server).socket.close()
            took.append(time.monotonic() - begin)
        yield at_most("↳ p99 of 100 handshakes then", percentile(took, .99) * 1e3, 100, "ms")
        close_all(crowd)
        worker.__exit__()
        yield from aftermath.figures()


def nobody_there(quick):
    """They speak, and there is no worker, for a while; then one comes, and goes, and confirms what it never got."""
    count = 200 if quick else 2_000
    with Server(top=FORWARD, limits=["control_outbox = 1048576"], timeouts=["no_worker = 3"]) as server:
        aftermath = Aftermath(server)
        crowd = fleet(server, count)
        before = server.memory()
        server.forget_peak()
        _, _, begin = flood(crowd, 32_000, 2)
        grown = server.memory("VmHWM") - before
        yield at_most(f"{count} clients that flood while there is no worker: RSS grew at most by (limits.control_outbox is 1 MiB, "
                      "and one read of a client)", grown / MIB, 4, "MiB")
        eventually(lambda: server.status()["closed"].get("1013", 0) > 0)
        yield at_most("↳ seconds until those that spoke are closed with 1013", time.monotonic() - begin, 4.5, "s")
        close_all(crowd)
        liar = subscribe(server, b"message ack")
        with Client(server) as client:
            client.send(frame(0x81, b"hello"))
            said = told(liar)
            liar.command("a", b"%d" % (int(said[0]) + 1))
            yield is_so("↳ a worker that confirms what it never got is told", liar.reply(), ("E", b""))
            liar.__exit__()
            heir = subscribe(server, b"message ack")
            again = told(heir)
            yield is_so("↳ and what it had not confirmed another one", (again[0], again[3].rsplit(b" ", 1)[-1]), (b"1+", b"hello"))
            heir.command("q")
            heir.__exit__()
        yield from aftermath.figures()


def speak(stopped, server, connections, period_s):
    """Each of the clients says its number and the time, over and over."""
    number, due = 0, time.monotonic()
    while not stopped(max(0, due - time.monotonic())):
        connection = connections[number % len(connections)]
        connection.send(frame(0x81, b"%d %.9f" % (number, time.monotonic())))
        number, due = number + 1, due + period_s
    return number


def hear(stopped, worker):
    """Seconds from the stamp in each message to its arrival."""
    took, chooser = [], selectors.DefaultSelector()
    chooser.register(worker.socket, selectors.EVENT_READ)
    pending = b""
    while not stopped():
        if not chooser.select(0.05):
            continue
        pending += worker.socket.recv(1 << 16)
        now = time.monotonic()
        while (end := next((at for at, byte in enumerate(pending) if not 48 <= byte <= 57), None)) is not None:
            length = int(pending[:end])
            if len(pending) < end + 1 + length:
                break
            payload, letter = pending[end + 1:end + 1 + length], pending[end:end + 1]
            pending = pending[end + 1 + length:]
            if letter == b"g" and not payload.endswith(b"x"):  # those of the flood have no stamp
                took.append(now - float(payload.rsplit(b" ", 1)[1]))
            elif letter == b"p":
                worker.command("P")
    return took


def of_the(workers, server, connections):
    """Which clients speak to which of the workers of a pool."""
    shares = [[] for _ in workers]
    for connection in connections:
        connection.send(frame(0x81, b"whose"))
    eventually(lambda: server.status()["events"].get("message", 0) >= len(connections))
    names = {}
    for place, worker in enumerate(workers):
        worker.command("p")
        while (found := worker.reply())[0] != "P":
            if found[0] == "g":
                names[found[1].split(b" ")[1].decode()] = place
    for token, connection in zip(TOKENS, connections):
        shares[names[token]].append(connection)
    return shares


TOKENS = [os.urandom(16).hex() for _ in range(1_000)]


def beside_one_that_hangs(quick):
    """One of two workers takes nothing for twenty seconds. The clients of the other one do not notice."""
    seconds = 5 if quick else 20
    patient = [f"{name} = 3600" for name in ("worker", "control", "idle")]
    with Server(top=FORWARD, limits=["control_outbox = 1048576"], timeouts=patient) as server:
        aftermath = Aftermath(server)
        crowd = fleet(server, len(TOKENS), tokens=TOKENS)
        workers = [subscribe(server, b"message as=chat") for _ in range(2)]
        others, mine = of_the(workers, server, crowd)
        log = subscribe(server, b"message as=log")
        took = {}
        for when in ("before", "meanwhile"):
            if when == "meanwhile":
                messages, sent, _ = flood(others, FLOOD_BYTES, 2)
            ears = Background(hear, workers[1]), Background(hear, log)
            time.sleep(2)  # what the flood has brought before it was stopped is not timed
            tongue = Background(speak, server, mine, 0.002)
            time.sleep(seconds)
            said = tongue.stop()
            time.sleep(0.5)
            took[when] = [ear.stop() for ear in ears]
            yield is_so(f"{len(mine)} clients beside {len(others)} of a worker that hangs, {when}: heard by their worker", len(took[when][0]), said)
        for place, name in enumerate(("their worker", "another pool")):
            before, meanwhile = (percentile(took[when][place], .99) * 1e3 for when in ("before", "meanwhile"))
            yield at_most(f"↳ p99 until {name} has it ({before:.3g} ms undisturbed)", meanwhile, 2 * before + 2, "ms")
        ear = Background(hear, log)  # the other pool is told too, and would stop the clients if it took nothing
        yield from in_order(workers[0], others, messages, sent)
        ear.stop()
        close_all(crowd)
        for worker in (*workers, log):
            worker.command("q")
            worker.__exit__()
        yield from aftermath.figures()


def in_order(worker, others, messages, sent):
    """The one that hung reads on: everything is there, in order, once."""
    whole, last, wrong = sum(sent[place] // (len(messages[place]) // (FLOOD_BYTES // 70)) for place in range(len(others))), {}, 0
    for place, connection in enumerate(others):  # what was cut in the middle is finished
        size = len(messages[place]) // (FLOOD_BYTES // 70)
        rest = -sent[place] % size
        connection.setblocking(True)
        whole += rest > 0
    finish = Background(lambda _: [connection.sendall(messages[place][sent[place]:sent[place] + -sent[place] % (len(messages[place]) // (FLOOD_BYTES // 70))])
                                   for place, connection in enumerate(others)] and None)
    heard = 0
    while heard < whole and (fields := told(worker)):
        place, number = map(int, fields[3].split(b" ")[0].split(b"."))
        wrong += number != last.get(place, -1) + 1
        last[place] = number
        heard += 1
    finish.wait()
    yield is_so(f"↳ then it reads on: of {whole} messages heard; lost, doubled or out of order", (heard, wrong), (whole, 0))
