"""Rows 11, 16, 17, 18 and 20: what the process meets from below."""
import os
import resource
import signal
import subprocess
import time

from rig.peers import Background, Client, close_all, dial, directs, fleet, frame, read_head
from report import Aftermath, at_most, is_so, row
from rig.server import SECRET, Server, eventually, head

DESCRIPTORS_MIN = 32


# 11: descriptors

@row(11)
def few_descriptors(quick):
    for descriptors in (64, DESCRIPTORS_MIN):
        with Server(descriptors=descriptors, limits=["unauthenticated = 1000"], timeouts=["handshake = 3600", "idle = 3600"]) as server:
            aftermath = Aftermath(server)
            yield from exhausted(server, aftermath, descriptors, 1 if quick else 5)
            yield from aftermath.figures()


def exhausted(server, aftermath, descriptors, seconds):
    """Every place is taken by one that is silent; then no descriptor is left, and one genuine client waits in the backlog."""
    opened = fleet(server, descriptors // 4)
    silent = [dial(server) for _ in range(2 * descriptors)]
    begin = time.monotonic()
    with dial(server) as genuine:
        genuine.settimeout(30)
        genuine.sendall(head())
        answer = read_head(genuine).split(b"\r\n")[0].decode()
    took = (time.monotonic() - begin) * 1e3
    what = f"ulimit -n {descriptors}, {len(opened)} open, {len(silent)} silent: a genuine one is answered `{answer[9:12]}`"
    yield what, f"after {took:.0f} ms", "101, ≤ 1000 ms", " 101 " in answer and took <= 1000
    close_all(silent)
    eventually(lambda: server.status()["unauthenticated"] == 0 and server.status()["clients"] == len(opened), 10)
    # What the server opens next would have the lowest free number: with this limit it may not.
    aftermath.settled_descriptors()
    numbers = {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
    free = next(number for number in range(descriptors) if number not in numbers)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free, descriptors))
    waiting = dial(server)
    waiting.sendall(head())
    cpu = server.cpu_s()
    waiting.settimeout(seconds)
    try:
        early = bool(waiting.recv(1))
    except TimeoutError:
        early = False
    share = 100 * (server.cpu_s() - cpu) / seconds
    yield at_most(f"↳ no descriptor is left, one waits in the backlog: CPU over {seconds} s", share, 5, "%")
    waiting.settimeout(30)
    begin = time.monotonic()
    close_all(opened)
    answer = read_head(waiting).split(b"\r\n")[0].decode()
    took = (time.monotonic() - begin) * 1e3
    yield f"↳ once descriptors are free, who waits is answered `{answer[9:12]}`", f"after {took:.0f} ms", "101, ≤ 1000 ms", not early and " 101 " in answer and took <= 1000
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
    close_all([waiting])


# 16: signals

def signals(stopped, pid, count):
    kinds, begin = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP), time.monotonic()
    for number in range(count):
        os.kill(pid, kinds[number % 3])
    return time.monotonic() - begin


@row(16)
def signal_storm(quick):
    count = 5000 if quick else 100_000
    with Server() as server:
        aftermath = Aftermath(server)
        probe = Background(directs, server, 0)
        storms = [Background(signals, server.pid, count // 4) for _ in range(4)]
        clients = fleet(server, 50)
        taken = max(storm.wait() for storm in storms)
        times = probe.stop()
        alive = server.alive() and server.answers()
        reloads = server.status()["reload"]["count"]
        close_all(clients)
        what = f"{count} signals (USR1, USR2, HUP) in {taken:.1f} s with {len(times)} messages to and fro ({reloads} reloads done): alive and answering"
        yield is_so(what, alive, True)
        yield from aftermath.figures()
    paced = 200 if quick else 3000
    with Server() as server:
        aftermath = Aftermath(server)
        probe = Background(directs, server, 0)
        for number in range(paced):
            os.kill(server.pid, (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)[number % 3])
            time.sleep(0.001)
        times = probe.stop()
        reloads = server.status()["reload"]["count"]
        yield is_so(f"{paced} signals a millisecond apart, {len(times)} messages ({reloads} reloads done): alive and answering", server.answers(), True)
        yield from aftermath.figures()


# 17, 18: privileges and the secret

def field(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(" ".join(line.split()[1:]) for line in file if line.startswith(name + ":"))


class AsNobody(Server):
    def write_config(self, mode=0o600):
        super().write_config(mode)
        os.chown(self.folder, 65534, 65534)
        os.chown(self.config, 65534, 65534)


@row(17)
def root_given_up(quick):
    if os.geteuid():
        yield "not run by root", "see tests/daemon.rs root_is_given_up_for_good", "", True
        return
    with AsNobody(top=['user = "nobody"']) as server:
        with Client(server) as client:
            client.send(frame(0x89, b"x"))
            client.receive()
        for name, wanted in (("Uid", "65534 " * 3 + "65534"), ("Gid", "65534 " * 3 + "65534"), ("Groups", ""), ("CapEff", "0" * 16), ("CapPrm", "0" * 16), ("NoNewPrivs", "1")):
            yield is_so(f"started by root with `user = \"nobody\"`: {name} in /proc", field(server.pid, name) or "none", wanted or "none")


@row(18)
def secret_seen(quick):
    """Looks for the secret where others look, and lets the process die in the way that leaves a core."""
    with Server() as server:
        with Client(server) as client, dial(server) as stranger:
            stranger.sendall(head()[:-40].replace(b"digest=", b"digest=f") + b"\r\n\r\n")
            read_head(stranger)
        for number in (signal.SIGHUP, signal.SIGUSR2):
            os.kill(server.pid, number)
        eventually(lambda: "status {" in server.log(), 5)
        places = {f"/proc/PID/{name}": open(f"/proc/{server.pid}/{name}", "rb").read() for name in ("cmdline", "environ", "maps")}
        places["the log"] = server.log().encode()
        with server.backend() as backend:
            places["status"] = backend.ask("t")[1]
        places["check"] = subprocess.run([server.binary, "check", "-c", server.config], capture_output=True).stdout
        found = [name for name, text in places.items() if SECRET.encode() in text]
        yield is_so(f"the secret in {', '.join(places)}", ", ".join(found) or "nowhere", "nowhere")
        owner = os.stat(f"/proc/{server.pid}/environ").st_uid
        with open(f"/proc/{server.pid}/limits") as file:
            core = next(line.split()[4:6] for line in file if line.startswith("Max core"))
        yield is_so("limits of a core file; owner of /proc/PID/environ", (*core, owner), ("0", "0", 0))
    dying = Server()
    with dying as server:
        os.kill(server.pid, signal.SIGABRT)
        ended = os.waitpid(server.pid, 0)[1]
        server.process.returncode = -6
        cores = [name for name in os.listdir(server.folder) if "core" in name]
        yield is_so("killed by SIGABRT: dumped; files called core", (os.WCOREDUMP(ended), cores), (False, []))


@row(20)
def open_config(quick):
    class Refused(Server):
        def start(self):
            os.chmod(self.config, self.mode)
            command = [self.binary, "run", "-c", self.config]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            self.code, self.said = done.returncode, done.stderr.strip()
            self.process = subprocess.Popen(["true"])
            self.process.wait()
            return True
    for mode in (0o644, 0o604, 0o602, 0o666):
        refused = Refused()
        refused.mode = mode
        with refused:
            said = refused.said.replace(refused.folder, "").splitlines()
            yield f"configuration with a secret, mode {mode:04o}: exit code, sentence", f"{refused.code}, {(said or ['nothing'])[0][:90]!r}", "6 and a sentence", refused.code == 6 and bool(said)
