"""Leads the soak: busy and quiet times in turn, samples, and the judgement of what drifted.

At each quiet point nothing is connected but the readers and the probe, and the server has had the time to give memory
back: there descriptors, counters and memory are compared.
"""
import argparse
import os
import signal
import sys
import time

import drift
import world
from rig.peers import FORK, PING, PONG, TEXT, Background, Client, frame
from report import adds_up
from rig.server import Server, eventually

LIMITS = ['outbox = "256 KiB"', 'control_payload = "256 KiB"', 'queued = "16 MiB"']
# Ping soon, so that the silent are gone soon.
TIMEOUTS = ["idle = 1", "pong = 5", "handshake = 2", "close = 5", "stalled = 4", "lock = 5"]
# A while after the last departure the server gives memory back, and again after as long.
TIDY_S = 6.5
SAMPLE_S = 5
# Latencies that are kept.
PROBES_MAX = 200_000


def alone():
    """An interrupt is for the leader, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def play(*words):
    alone()
    world.play(*words)


def probe(stopped, server, pause_s):
    """(moment, seconds) of direct messages, one at a time, from the backend's write to the client's read."""
    alone()
    token, took, number = "probe".ljust(32, "0"), [], 0
    with Client(server, token) as client, server.backend() as backend:
        while not stopped(pause_s):
            begin, wanted = time.monotonic(), b"probe %d" % number
            backend.command("d", token.encode() + wanted)
            while found := client.receive():
                if found[0] == PING:
                    client.send(frame(0x80 | PONG, found[1]))
                if found == (TEXT, wanted):
                    break
            if not found:
                return took, f"the probe was closed at message {number}"
            took.append((begin, time.monotonic() - begin))
            number += 1
    return took, None


class Soak:
    def __init__(self, server, length_s, busy_s):
        self.server, self.end, self.busy_s = server, time.monotonic() + length_s, busy_s
        self.begin, self.samples, self.quiet, self.busy_times, self.tally = time.monotonic(), [], [], [], {}
        self.wrong, self.reloads, self.reopened, self.probed = [], 0, 0, ([], None)

    def sample(self, kind):
        status = self.server.status()
        row = {
            "s": time.monotonic() - self.begin, "kind": kind, "rss": self.server.memory(), "fds": self.server.descriptors_open(),
            "cpu": self.server.cpu_s(), "status": status,
        }
        self.samples.append(row)
        return row

    def upset(self, turn):
        """The acts of the administrator, now and then."""
        if turn % 2:
            self.server.process.send_signal(signal.SIGHUP)
            self.reloads += 1
        else:
            os.replace(self.server.log_path, self.server.log_path + ".1")
            self.server.process.send_signal(signal.SIGUSR1)
            self.reopened += 1
            if not eventually(lambda: os.path.exists(self.server.log_path), 5):
                self.wrong.append("the log was not opened again")

    def rest(self):
        """Everything is at rest: the base that must not drift."""
        readers, names = self.tally["readers"], ("unauthenticated", "closing", "locks", "queued_bytes")

        def at_rest():
            status = self.server.status()
            return status["clients"] == readers + 1 and status["backends"] == 2 and not any(status[name] for name in names)
        if not eventually(at_rest, 15, 0.2):
            status = self.server.status()
            self.wrong.append(f"no rest: { {name: status[name] for name in ('clients', 'backends', *names)} }")
        time.sleep(TIDY_S)
        counts = []
        eventually(lambda: counts.append(self.server.descriptors_open()) or len(counts) > 4 and len(set(counts[-5:])) == 1, 5)
        row = self.sample("quiet")
        row["fds"] = counts[-1]
        if not eventually(lambda: adds_up(self.server.status()), 1):
            self.wrong.append("accepted is not open + unauthenticated + closed + refused")
        self.quiet.append(row)
        print(drift.line(row), file=sys.stderr, flush=True)

    def run(self, seed):
        self.pipe, theirs = FORK.Pipe()
        crowd = FORK.Process(target=play, args=(theirs, self.server, seed), daemon=True)
        crowd.start()
        theirs.close()
        probing = Background(probe, self.server, max(0.02, (self.end - self.begin) / PROBES_MAX))
        try:
            self.tally = self.pipe.recv()
            self.rest()
            turn = 0
            while time.monotonic() < self.end and self.server.alive():
                turn += 1
                self.cycle(turn)
        except (EOFError, OSError) as error:
            self.wrong.append(f"the traffic has ended: {error!r}")
        except KeyboardInterrupt:
            print("interrupted: what there is by now", file=sys.stderr)
        self.pipe.close()
        crowd.terminate()
        crowd.join()
        self.probed = probing.stop() if probing.process.is_alive() else ([], "the probe has ended")
        if not self.server.alive():
            self.wrong.append(f"the server has ended with {self.server.process.returncode}")

    def cycle(self, turn):
        begin = time.monotonic()
        self.pipe.send(self.busy_s)
        upset = False
        while not self.pipe.poll(SAMPLE_S):
            self.sample("busy")
            if not upset:
                self.upset(turn)
                upset = True
        self.tally = self.pipe.recv()
        self.busy_times.append((begin, begin + self.busy_s))
        self.rest()


def main():
    parser = argparse.ArgumentParser(prog="tests/lab/soak/run", description="Mixed traffic for a long time, and what drifted.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--short", action="store_true", help="about 80 seconds, `ok` and `not ok` lines, no file")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "RESULTS.md"))
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    length_s, busy_s = (60, 7) if words.short else (words.minutes * 60, 44)
    with Server(['on_message = "echo"'], limits=LIMITS, timeouts=TIMEOUTS) as server:
        soak = Soak(server, length_s, busy_s)
        soak.run(words.seed)
        figures = drift.judge(soak)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for line in drift.verdicts(figures) + [f"  {one}" for one in soak.tally.get("examples", [])]:
            print(line, flush=True)
        if not words.short:
            drift.write(words.out, soak, figures, f"tests/lab/soak/run --minutes {words.minutes:g} --seed {words.seed}")
    sys.exit(1 if any(holds is False for *_, holds in figures) else 0)


if __name__ == "__main__":
    main()
