"""Lets every system call of the server fail, in turn, with every error it may return, and keeps the table."""
import collections
import multiprocessing
import os
import platform
import sys
import time

from errors import ERRORS, HARMLESS
from inject import Fault
from phases import MEMORY, MEMORY_CALLS, ONE_LOST, SENTENCE, UNHURT, UNREACHED, SCENES, Serving, begin, stop

HERE = os.path.dirname(os.path.abspath(__file__))
OUTCOMES = (UNHURT, ONE_LOST, SENTENCE, MEMORY, UNREACHED)
PHASES = ("run", "start", "play", "reload", "reopen", "stop")
WORKERS = 2
# Occurrences of a call at which it fails: all up to this many, and the last. Quick: the first, one in the middle, the last.
OCCURRENCES_MAX = 40
HEAD = """# What faults from below came to

Written by `tests/lab/faults/run` on {date}, on {host}; do not edit. Each system call that the server makes in a phase fails
once with each error that it may return here, at each occurrence (the first {most} and the last): {total} faults.

* `run`, `start`: from the first look at the configuration until it serves. *unhurt*: it serves all the same;
  *sentence*: it ends with 1, 4 or 6 and a sentence, and leaves neither PID file nor sockets.
* `play`: clients over TCP, TLS and Unix sockets, with and without a right to be there, a backend with every kind of
  command, a worker that is told who comes and goes, broadcasts that do not fit a socket, closes, resets. `reload`: SIGHUP. `reopen`: SIGUSR1, SIGUSR2. *unhurt*:
  nobody was lost; *one lost*: the connection that the call was about. Afterwards everybody who stayed is served,
  new ones get in, the counters add up, no descriptor is left.
* `stop`: SIGTERM. Everybody (but one, where the call was about one) hears 1001, the exit code is 0, no file is left.
* *memory*: no memory could be had, and the process ended with Rust's own words, `memory allocation of … bytes failed`.
* strace does not carry the call out that it lets fail, while the kernel's close always closes: so a descriptor more
  is forgiven after a close, and `start` is not judged by it (its end of the pipe would stay open). An EAGAIN that the
  kernel would not have said leaves no event behind: who hears nothing asks again, and must be heard then.
* Not looked at: what happens before main, in the dynamic loader and in Rust's runtime.
* *not reached*: the occurrence did not come this time.

| phase | call | occurrences | errors | faults | {outcomes} | wrong |
|---|---|---|---|---|{dashes}|---|
"""


def user():
    """Whom the server becomes: dropping root is a part of the start."""
    return "nobody" if os.geteuid() == 0 else None


def chosen(first, last, quick):
    if quick:
        return sorted({first, (first + last + 1) // 2, last})
    return [*range(first, min(last, first + OCCURRENCES_MAX - 1) + 1), *([last] if last >= first + OCCURRENCES_MAX else [])]


def faults_of(phase, calls, quick):
    # The log first: it sums up repeated lines, and then writes no more.
    for call, (first, last) in sorted(calls.items(), key=lambda item: (item[0] != "write", item)):
        if call in HARMLESS or (phase, call) == ("start", "close"):  # see the head of the table
            continue
        if call not in ERRORS:
            raise SystemExit(f"not ok faults: {phase} makes {call}, of which tests/lab/faults/errors.py knows nothing")
        for when in chosen(first, last, quick):
            for error in ERRORS[call]:
                yield Fault(phase, call, error, when)


def look(phase):
    if phase in SCENES:
        with Serving(user()) as serving:
            return serving.look(phase)
    return stop(user()) if phase == "stop" else begin(phase, user())


def work(faults):
    """The outcomes of one worker's share."""
    found = []
    if faults[0].phase in SCENES:
        with Serving(user()) as serving:
            for fault in faults:
                found.append((fault, attempt(lambda: serving.suffer(fault))))
        return found
    for fault in faults:
        do = (lambda: stop(user(), fault)) if fault.phase == "stop" else (lambda: begin(fault.phase, user(), fault))
        found.append((fault, attempt(do)))
    return found


def attempt(do):
    """A fault that could not be reached is tried once more: not every round is the same."""
    outcome = do()
    return do() if outcome == UNREACHED else outcome


def shares(faults, size=40):
    return [faults[place:place + size] for place in range(0, len(faults), size)]


def inject(phase, calls, quick, pool):
    begin_s, found = time.monotonic(), []
    faults = list(faults_of(phase, calls, quick))
    for share in pool.imap_unordered(work, shares(faults)):
        found += share
    print(f"  {phase}: {len(found)} faults, {time.monotonic() - begin_s:.0f} s", file=sys.stderr, flush=True)
    return found


def report(phase, calls, found):
    """`ok` and `not ok` lines for people and for tests/run; one per call."""
    wrong = 0
    for call in sorted({fault.call for fault, _ in found}):
        mine = [(fault, outcome) for fault, outcome in found if fault.call == call]
        bad = [(fault, outcome) for fault, outcome in mine if outcome not in OUTCOMES]
        for fault, outcome in bad:
            print(f"not ok {fault}: {outcome}")
        if call not in MEMORY_CALLS and all(outcome == UNREACHED for _, outcome in mine):
            print(f"not ok {phase}: {call} was never reached")
            bad = mine
        if not bad:
            tally = collections.Counter(outcome for _, outcome in mine)
            print(f"ok {phase}: {call}, {len(mine)} faults: " + ", ".join(f"{n} {word}" for word, n in tally.most_common()))
        wrong += len(bad)
    sys.stdout.flush()
    return wrong


def table(rows):
    for phase, calls, found in rows:
        for call, (first, last) in sorted(calls.items()):
            if call in HARMLESS:
                yield f"| {phase} | {call} | {last - first + 1} | {HARMLESS[call]} | 0 |{' |' * len(OUTCOMES)} |"
                continue
            tally = collections.Counter(outcome if outcome in OUTCOMES else "wrong" for fault, outcome in found if fault.call == call)
            cells = " | ".join(str(tally[word] or "") for word in (*OUTCOMES, "wrong"))
            yield f"| {phase} | {call} | {last - first + 1} | {' '.join(ERRORS[call])} | {sum(tally.values())} | {cells} |"


def write(rows):
    total = sum(len(found) for *_, found in rows)
    host = f"{os.cpu_count()} processors, Linux {platform.release().split('-')[0]}"
    with open(os.path.join(HERE, "RESULTS.md"), "w") as file:
        file.write(HEAD.format(date=time.strftime("%Y-%m-%d"), host=host, most=OCCURRENCES_MAX, total=total,
                               outcomes=" | ".join(OUTCOMES), dashes="|".join(["---"] * len(OUTCOMES))))
        file.writelines(line + "\n" for line in table(rows))


def main(words):
    quick = "--quick" in words
    phases = [word for word in words if word != "--quick"] or list(PHASES)
    if unknown := set(phases) - set(PHASES):
        sys.exit(f"usage: tests/lab/faults/run [--quick] [PHASE...], of {', '.join(PHASES)}; not {unknown}")
    rows, wrong = [], 0
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        for phase in phases:
            calls = look(phase)
            found = inject(phase, calls, quick, pool)
            wrong += report(phase, calls, found)
            rows.append((phase, calls, found))
    if not quick and len(phases) == len(PHASES):
        write(rows)
    print(f"{sum(len(found) for *_, found in rows)} faults, {wrong} wrong", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
