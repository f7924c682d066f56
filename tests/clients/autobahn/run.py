"""The outside judge: Autobahn|Testsuite's fuzzing client against the echo mode.

usage: run.py [--update] [CASE]...     such as 1.* or 9.1.6; without one all cases but those of compression (12, 13)

Each case is one `ok` or `not ok` line. With no case given, exactly 301 must have run, each over a connection that opened,
and the results must be those of expected.json, so that a change of any of them shows; --update writes that file.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import harness
from harness import CACHE, ROOT, SECRET, Server, check, not_ok, ok

ORIGIN = "https://example.com"
EXPECTED = os.path.join(HERE, "expected.json")
CASES = 301
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
PYTHON = os.path.join(CACHE, "py27", "bin", "python")
# Messages of 16 MiB, some in 65,536 fragments, echoed whole; slow cases chop them for minutes.
LIMITS = ["message = 17825792", "outbox = 134217728", "queued = 1073741824", "control_payload = 20000000"]
TIMEOUTS = ["idle = 600", "pong = 600", "stalled = 120", "handshake = 60", "close = 10"]


def shares(cases):
    """Two halves of about the same length, for two cores. Group 9 is large messages and takes most of the time."""
    if cases:
        return [cases]
    return [["9.*"], [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)]]


def fuzz(server, cases, folder):
    os.mkdir(folder)
    spec = {
        "outdir": os.path.join(folder, "reports"),
        "servers": [{"agent": "wsson", "url": f"ws://127.0.0.1:{server.port}"}],
        "cases": cases,
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    }
    spec_path = os.path.join(folder, "spec.json")
    with open(spec_path, "w") as file:
        json.dump(spec, file)
    log = open(os.path.join(folder, "fuzz.log"), "w")
    command = [PYTHON, os.path.join(HERE, "fuzz.py"), spec_path, SECRET, ORIGIN, os.path.join(folder, "opened")]
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def results(folder):
    """Case to result, and the ids of those that really were connected."""
    try:
        with open(os.path.join(folder, "reports", "index.json")) as file:
            index = json.load(file)["wsson"]
        with open(os.path.join(folder, "opened")) as file:
            return index, file.read().split()
    except (OSError, KeyError) as error:
        with open(os.path.join(folder, "fuzz.log"), errors="replace") as log:
            not_ok("autobahn", f"no report ({error}): {log.read()[-800:]}")
        return {}, []


def judge(index, opened):
    for case in sorted(index, key=lambda name: [int(part) for part in name.split(".")]):
        behavior, closing = index[case]["behavior"], index[case]["behaviorClose"]
        if behavior not in GOOD or closing not in GOOD:
            not_ok(f"autobahn {case}", f"{behavior}, close {closing}, code {index[case]['remoteCloseCode']}")
        elif opened.count(case) != 1:
            not_ok(f"autobahn {case}", f"its connection opened {opened.count(case)} times")
        else:
            ok(f"autobahn {case} {behavior}")
    return {case: [entry["behavior"], entry["behaviorClose"]] for case, entry in index.items()}


def compare(summary, update):
    check("autobahn cases that ran", len(summary), CASES)
    unlike = [case for case, result in summary.items() if result[0] != "OK"]
    print(f"# not plain OK: {', '.join(f'{case} {summary[case][0]}' for case in unlike) or 'none'}")
    if update:
        with open(EXPECTED, "w") as file:
            by_number = sorted(summary, key=lambda name: [int(part) for part in name.split(".")])
            lines = [f'  "{case}": {json.dumps(summary[case])}' for case in by_number]
            file.write("{\n" + ",\n".join(lines) + "\n}\n")
    with open(EXPECTED) as file:
        expected = json.load(file)
    changed = [f"{case}: {expected.get(case)} → {summary.get(case)}"
               for case in sorted({*expected, *summary}) if expected.get(case) != summary.get(case)]
    check("autobahn results as in expected.json", changed, [])


def main():
    arguments = sys.argv[1:]
    update = "--update" in arguments
    cases = [argument for argument in arguments if argument != "--update"]
    if not os.path.exists(PYTHON):
        not_ok("autobahn", f"{os.path.relpath(PYTHON, ROOT)} is missing: tests/run makes it")
        harness.finish()
    folder = tempfile.mkdtemp(prefix="wsson-autobahn-")
    index, opened = {}, []
    with Server([ORIGIN], top=['on_message = "echo"'], limits=LIMITS, timeouts=TIMEOUTS) as server:
        running = []
        for number, share in enumerate(shares(cases)):
            part = os.path.join(folder, str(number))
            running.append((part, fuzz(server, share, part)))
        for part, process in running:
            try:
                process.wait(900)
            except subprocess.TimeoutExpired:
                process.kill()
                not_ok("autobahn", "no end after 900 s")
            found, connected = results(part)
            index.update(found)
            opened += connected
    summary = judge(index, opened)
    if not cases:
        compare(summary, update)
    if harness.failed:
        kept = os.path.join(ROOT, "target", "test-logs", "autobahn-reports")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        print(f"# reports: {os.path.relpath(kept, ROOT)}", file=sys.stderr)
    shutil.rmtree(folder)
    harness.finish()


main()
