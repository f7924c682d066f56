"""What the server does while a call of it fails, and what must hold afterwards. Each phase returns an outcome: one of
the words below, or a complaint.
"""
import os
import re
import shutil
import signal
import subprocess

from errors import losses_max
from inject import Trace, counts
from scene import TRIES, Client, Gone, Play, Stage, eventually

UNHURT, ONE_LOST, SENTENCE, MEMORY, UNREACHED = "unhurt", "one lost", "sentence", "memory", "not reached"
EXITS = {1, 4, 6}
# Files that a fault in one of these may keep the server from removing: the next start has to cope with them.
REMOVES = {"unlink", "statx"}
MEMORY_CALLS = {"brk", "mmap", "mremap", "munmap"}
SETTLE_S = 6
# `start`: the server's word did not get through.
UNHEARD = {"recvfrom": "wsson: cannot hear from the server: ", "sendto": "wsson: the server ended before it was ready, without a word"}


def adds_up(status):
    accepted = sum(listener["accepted"] for listener in status["listeners"])
    here = status["clients"] + status["unauthenticated"]
    return accepted == here + sum(status["closed"].values()) + sum(status["refused"].values())


def out_of_memory(code, said):
    return code == -signal.SIGABRT and re.fullmatch(r"memory allocation of \d+ bytes failed", said)


class Serving:
    """A server that lives through one fault after the other."""

    def __init__(self, user):
        self.user, self.stage, self.toggle = user, None, 0

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, *_):
        self.close()

    def open(self):
        self.stage = Stage(user=self.user).__enter__()
        try:
            self.play = Play(self.stage)
            for scene in SCENES.values():  # what is kept for good is made once
                scene(self)
            self.descriptors = self.settled()
        except BaseException:
            self.stage.__exit__()
            raise

    def close(self):
        self.play.close()
        self.stage.__exit__()

    def settled(self):
        """Open descriptors once only the witnesses are there; None when that does not happen."""
        def quiet():
            for name in list(self.play.witnesses):
                self.play.witness(name, Client.stay)
            status = self.stage.status()
            here = status["clients"], status["backends"], status["unauthenticated"], status["closing"]
            return here == (len(self.play.witnesses), 1, 0, 0)
        if not eventually(quiet, SETTLE_S, 0.005):
            return None
        # The connection that asked for the status may still be there: the fewest of a few counts.
        counted = []
        eventually(lambda: counted.append(self.stage.descriptors_open()) or len(counted) == 5, 2, 0.002)
        return min(counted)

    # The scenes.

    def act(self):
        self.play.act()

    def reload(self):
        """Another limit, another certificate's name, another log."""
        self.toggle ^= 1
        self.stage.more_timeouts = ["lock = %d" % (20 + self.toggle)]
        self.stage.log_path = os.path.join(self.stage.folder, "log" + "2" * self.toggle)
        self.stage.write_config()
        before = self.ask()["reload"]["count"]
        # The signal's own call may be the one that fails: then it is heard at the next tick, or with the next signal.
        for _ in range(TRIES):
            os.kill(self.stage.pid, signal.SIGHUP)
            if eventually(lambda: self.ask()["reload"]["count"] > before, 0.5, 0.002):
                return
        self.play.lost.append("SIGHUP: not heard")

    def ask(self):
        for _ in range(3):
            try:
                return self.stage.status()
            except OSError as gone:
                self.play.lost.append(f"status: {gone}")
        raise Gone("no status")

    def reopen(self):
        os.rename(self.stage.log_path, self.stage.log_path + ".1")
        os.kill(self.stage.pid, signal.SIGUSR1)
        self.ask()
        os.kill(self.stage.pid, signal.SIGUSR2)
        self.ask()
        if not os.path.exists(self.stage.log_path):
            open(self.stage.log_path, "a").close()  # the reopening failed: something to move the next time

    # A fault.

    def look(self, phase):
        """The calls of a scene, with the occurrences of each. Whatever is rare enough is seen in three rounds."""
        found = {}
        for _ in range(3):
            trace = Trace(pid=self.stage.pid)
            SCENES[phase](self)
            trace.detach()
            for call, (_, last) in counts(trace.lines()).items():
                found[call] = 1, max(last, found.get(call, (1, 0))[1])
            trace.forget()
        self.play.lost.clear()
        return found

    def suffer(self, fault):
        self.play.lost.clear()
        complaints = []
        trace = Trace(fault, pid=self.stage.pid)
        try:
            SCENES[fault.phase](self)
        except Gone as gone:
            complaints.append(str(gone))
        trace.detach()
        fired = trace.fired()
        trace.forget()
        if self.stage.alive():
            try:
                complaints += list(self.judge(fault))
                lost = list(self.play.lost)
                self.play.fill()
                self.descriptors = self.settled()
            except (Gone, OSError) as error:
                complaints.append(str(error))
                eventually(lambda: not self.stage.alive(), 0.5)
        if not self.stage.alive():
            return self.dead(fault)
        if complaints:
            self.reopen_stage()
            return "; ".join(complaints)
        return (ONE_LOST if lost else UNHURT) if fired else UNREACHED

    def reopen_stage(self):
        self.close()
        self.open()

    def judge(self, fault):
        yield from self.play.aftermath()
        if fault.phase == "reload":
            yield from self.reload_works()
        lost = self.play.lost
        if len(self.without_locked(lost)) > losses_max(fault.call, fault.error):
            yield f"lost: {', '.join(lost)}"
        gone = 4 - len(self.play.witnesses)
        left = self.settled()
        status = self.stage.status()
        if left is None:
            yield f"still there: {status['clients']} clients, {status['backends']} backends, {status['closing']} closing"
        # A close that was not carried out leaves its descriptor.
        elif left + gone - self.descriptors > (1 if fault.call == "close" else 0):
            yield f"descriptors: {left + gone - self.descriptors:+d}"
        if not adds_up(status):
            yield "the counters do not add up"

    def without_locked(self, lost):
        """The client that the backend had locked goes with it when its message had begun (COMMANDS.md)."""
        backend = any(name.startswith("backend:") for name in lost)
        return [name for name in lost if not (backend and name.startswith("unix:"))]

    def reload_works(self):
        self.reload()
        if error := self.stage.status()["reload"]["error"]:
            yield f"the next reload fails: {error}"

    def dead(self, fault):
        code, said = self.stage.process.wait(), self.stage.said()
        log = self.stage.log().splitlines()[-1:]
        self.reopen_stage()
        if fault.call in MEMORY_CALLS and out_of_memory(code, said):
            return MEMORY
        if "function not implemented" in said and fault.error != "ENOSYS":
            return UNREACHED  # strace let go in the middle of the call, which the kernel then does not know
        return f"the server ended with {code}: {said} {log}"


SCENES = {"play": Serving.act, "reload": Serving.reload, "reopen": Serving.reopen}


# Phases that need a server of their own for each fault.

def stop(user, fault=None):
    """The server is asked to end. Returns the outcome, or the calls when there is no fault."""
    with Stage(user=user) as stage:
        play = Play(stage)
        trace = Trace(fault, pid=stage.pid)
        os.kill(stage.pid, signal.SIGTERM)
        if fault and fault.call == "sendto" and not eventually(lambda: " stopping " in stage.log(), 0.5, 0.002):
            os.kill(stage.pid, signal.SIGTERM)  # its wake-up byte was what failed: it is heard with the next signal
        for name in list(play.witnesses):
            play.witness(name, lambda client: client.until_closed())
        try:
            code = stage.process.wait(15)
        except subprocess.TimeoutExpired:
            code = None
        trace.detach()
        lines, fired = trace.lines(), trace.fired()
        trace.forget()
        play.close()
        if fault is None:
            return counts(lines)
        if code is None:
            return "SIGTERM: it does not end"
        if fault.call in MEMORY_CALLS and out_of_memory(code, stage.said()):
            return MEMORY
        if code != 0:
            return f"ended with {code}: {stage.said()}"
        if len(play.lost) > losses_max(fault.call, fault.error):
            return f"no goodbye: {', '.join(play.lost)}"
        if left := stage.leftovers():
            if fault.call not in REMOVES:
                return f"left behind: {left}"
            stage.start()
        return (ONE_LOST if play.lost else UNHURT) if fired else UNREACHED


def begin(how, user, fault=None):
    """`wsson run` or `wsson start` under strace: it serves in the end, or says why not."""
    stage = Stage(user=user).prepare()
    try:
        with open(stage.at("stderr"), "wb") as stderr:
            command = [stage.binary, how, "-c", stage.config]
            trace = Trace(fault, command=command, stderr=stderr, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        serves = eventually(lambda: trace.process.poll() is not None or answers(stage), 20, 0.003)
        if trace.process.poll() is not None:
            outcome = refusal(stage, trace.process.returncode, fault)
        else:
            outcome = service(stage, trace, fault) if serves else "neither serves nor ends"
        if trace.process.poll() is None:
            end_all(trace)
            outcome = f"{outcome}; it had to be killed"
        lines, fired = trace.lines(), trace.fired()
        trace.forget()
        if fault is None:
            return counts(lines, "wsson.toml\", AT", "epoll_wait(")
        return outcome if fired or outcome not in (UNHURT, SENTENCE) else UNREACHED
    finally:
        shutil.rmtree(stage.folder)


def answers(stage):
    if not os.path.exists(stage.control_path):
        return False
    return stage.answers()


def end_all(trace):
    """The processes below strace, by number; then strace."""
    with open(f"/proc/{trace.process.pid}/task/{trace.process.pid}/children") as file:
        for pid in file.read().split():
            os.kill(int(pid), signal.SIGKILL)
    try:
        trace.process.wait(5)
    except subprocess.TimeoutExpired:
        trace.process.kill()
        trace.process.wait()


def refusal(stage, code, fault):
    said = stage.said()
    if fault and fault.call in MEMORY_CALLS and out_of_memory(code, said):
        return MEMORY
    if code not in EXITS:
        return f"exit code {code}: {said}"
    if not re.match(r"wsson: .+: .+", said) or "os error" in said or "panicked" in said:
        return f"says {said!r}"
    if left := stage.leftovers():
        # A user that cannot read or lock the PID file does not know whose it is. Empty, it says that no server runs.
        empty = left == ["pid"] and os.path.getsize(os.path.join(stage.folder, "pid")) == 0
        # The kernel says EADDRINUSE to a listen on TCP only: a socket's file is then another program's.
        theirs = (fault.call, fault.error) == ("listen", "EADDRINUSE")
        if fault.call not in REMOVES and not (empty and fault.call in ("fcntl", "read")) and not theirs:
            return f"says {said!r}, and left behind: {left}"
    return SENTENCE


def service(stage, trace, fault):
    try:
        stage.pid = stage.status()["pid"]
        try:
            play = Play(stage)
        except (Gone, OSError):
            # strace counts in each process: what comes before the server serves in one may come with its first client in
            # the other, which one fault may end.
            if not fault or not losses_max(fault.call, fault.error):
                raise
            play = Play(stage)
        play.act()
        complaints = play.lost + play.aftermath()
        play.close()
        os.kill(stage.pid, signal.SIGTERM)
        code = trace.process.wait(10)
    except (Gone, OSError, subprocess.TimeoutExpired) as error:
        return f"started, but: {error}"
    if code != 0 and fault and UNHEARD.get(fault.call, "\0") in stage.said():
        return SENTENCE  # the starting process alone was hit, and says so
    if code != 0:
        complaints.append(f"ended with {code}")
    if left := stage.leftovers():
        complaints.append(f"left behind: {left}")
    return "; ".join(complaints) or UNHURT
