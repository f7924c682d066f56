"""One fault: strace makes one system call of the server say an error instead of being carried out."""
import collections
import os
import re
import signal
import subprocess
import tempfile

LINE = re.compile(r"^(\d+) +(\w+)\(")


class Fault(collections.namedtuple("Fault", "phase call error when")):
    def words(self):
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:error={self.error}:when={self.when}"]

    def __str__(self):
        return f"{self.phase}: {self.call} number {self.when} says {self.error}"


class Trace:
    """strace at work, on a process that runs (`pid`) or on a command that it starts. Without a fault it only looks."""

    def __init__(self, fault=None, pid=None, command=None, **popen):
        handle, self.path = tempfile.mkstemp(prefix="wsson-strace-")
        os.close(handle)
        words = ["strace", "-f", "-o", self.path, *(fault.words() if fault else [])]
        if pid is not None:
            self.process = subprocess.Popen([*words, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
            said = self.process.stderr.readline()
            if "attached" not in said:
                raise SystemExit(f"not ok faults: strace may not trace the server: {said.strip()}")
        else:
            self.process = subprocess.Popen([*words, "-qq", *command], **popen)

    def detach(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()

    def lines(self):
        with open(self.path, errors="replace") as file:
            return file.read().splitlines()

    def fired(self):
        return any("(INJECTED)" in line for line in self.lines())

    def forget(self):
        os.unlink(self.path)


def counts(lines, begin=None, end=None):
    """For each call: the first and last occurrence number from the line that has `begin` up to the one with `end`, in
    any one process. strace counts in each process; what the first one did before, a later one is not hit at.
    """
    seen, before, first, last, on = collections.Counter(), collections.Counter(), {}, {}, begin is None
    for line in lines:
        if not (match := LINE.match(line)):
            continue
        if not on and begin in line:
            on, before = True, collections.Counter({call: n for (_, call), n in seen.items()})
        if end is not None and end in line:
            break
        key = match[1], match[2]
        seen[key] += 1
        if on:
            first.setdefault(match[2], before[match[2]] + 1)
            last[match[2]] = max(seen[key], last.get(match[2], 0))
    return {call: (first[call], last[call]) for call in first if first[call] <= last[call]}
