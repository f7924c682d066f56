"""The unsafe code under valgrind: see tests/memcheck."""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from phases import SCENES, Serving
from scene import ROOT, Client, Gone, Play, Stage, eventually

SYS = os.path.join(ROOT, "src", "sys.rs")
ERROR = 99
MEMCHECK = ["valgrind", "--quiet", f"--error-exitcode={ERROR}", "--trace-children=yes", "--vgdb=no"]
# valgrind 3.19 knows neither pidfd_open nor pidfd_send_signal and answers ENOSYS, and keeps some descriptors for itself:
# these tests run without it only.
SKIP = ["--skip", "a_process_is_signalled_and_its_end_seen", "--skip", "groups_of_processes_are_never_signalled",
        "--skip", "descriptors_are_raised_to_the_hard_limit"]
_UNKNOWN = "valgrind does not know its system call; cargo test runs it"
UNSEEN = {"open": _UNKNOWN, "signal": _UNKNOWN}


def report(well, what):
    print(("ok " if well else "not ok ") + what, flush=True)
    return well


def unsafe_functions(text):
    """Functions of sys.rs with an unsafe block, and those blocks that have no reason before them."""
    found, unexplained, name = [], [], None
    lines = text.split("#[cfg(test)]\npub(crate) mod tests")[0].splitlines()
    for number, line in enumerate(lines):
        if match := re.match(r"\s*(?:pub(?:\(crate\))? )?fn (\w+)", line):
            name = match[1]
        if re.search(r"\bunsafe\b(?! code)", line) and not line.lstrip().startswith("//"):
            if name not in found:
                found.append(name)
            above = number - 1
            while above >= 0 and lines[above].lstrip().startswith(("//", "#[")) and "SAFETY:" not in lines[above]:
                above -= 1
            if "SAFETY:" not in lines[above]:
                unexplained.append(number + 1)
    return found, unexplained


def unit_tests(binary, folder):
    command = [*MEMCHECK, binary, "sys::tests", "privileges::", "--test-threads=1", *SKIP]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, timeout=240)
    if run.returncode:
        print(run.stdout)
    return report(run.returncode == 0, "memcheck: the unit tests of sys and privileges")


def life(binary, folder):
    """`start`, a change of user, clients, backends, reload, logs reopened, stop: all under valgrind."""
    logs = os.path.join(folder, "life-%p")
    stage = Stage(user="nobody", binary=os.path.abspath(binary)).prepare()
    stage.idle_s = 20
    stage.write_config()
    try:
        check = [*MEMCHECK, f"--log-file={logs}", stage.binary, "check", "-c", stage.config]
        checked = subprocess.run(check, timeout=60, stdout=subprocess.DEVNULL).returncode
        report(checked == 0, f"memcheck: the check ends with {checked}")
        command = [*MEMCHECK, f"--log-file={logs}", stage.binary, "start", "-c", stage.config]
        started = subprocess.run(command, timeout=60).returncode
        if not report(started == 0, f"memcheck: the start ends with {started}"):
            return False
        stage.pid = stage.status()["pid"]
        # Without TLS: memcheck does not follow ring's assembly, and takes what it writes for uninitialised.
        play = Play(stage, tls=False)
        for _ in range(3):
            play.act()
        complaints = play.lost + play.aftermath()
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(stage.pid, number)
            stage.status()
        os.kill(stage.pid, signal.SIGTERM)
        gone = eventually(lambda: not os.path.exists(f"/proc/{stage.pid}"), 30)
        play.close()
        well = report(not complaints and gone, f"memcheck: a life from start to stop {complaints or ''}")
        errors = "".join(open(path, errors="replace").read() for path in glob.glob(os.path.join(folder, "life-*")))
        return report(not errors, f"memcheck: errors in that life: {errors or 'none'}") and well
    finally:
        shutil.rmtree(stage.folder)


def short_life(callgrind, binary):
    """`check`, `start` and the end, with a change of user and no server there."""
    stage = Stage(user="nobody", binary=os.path.abspath(binary)).prepare()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 120}
    try:
        subprocess.run([*callgrind, stage.binary, "check", "-c", stage.config], **quiet)
        subprocess.run([*callgrind, stage.binary, "start", "-c", stage.config], **quiet)
        stage.pid = stage.status()["pid"]
        os.kill(stage.pid, signal.SIGTERM)
        eventually(lambda: not os.path.exists(f"/proc/{stage.pid}"), 60)
    finally:
        shutil.rmtree(stage.folder)


def coverage(tests, server, functions, folder):
    """Callgrind names every function that was entered, in the unit tests, in a short life and in all processes of these."""
    callgrind = ["valgrind", "--tool=callgrind", "--quiet", "--trace-children=yes", "--vgdb=no",
                 f"--callgrind-out-file={folder}/calls-%p"]
    command = [*callgrind, tests, "sys::tests", "privileges::", "config::", "--test-threads=1", *SKIP]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, timeout=240)
    short_life(callgrind, server)
    entered = set()
    for path in glob.glob(f"{folder}/calls-*"):
        with open(path, errors="replace") as file:
            entered.update(re.findall(r"\bwsson::sys::(?:\w+::)?(\w+)", file.read()))
            file.seek(0)
            entered.update(re.findall(r"\bwsson::sys::(?:[\w<>]+::)*(\w+)", file.read()))
    well = True
    for name in functions:
        if name in UNSEEN:
            print(f"{name}: {UNSEEN[name]}")
            continue
        well &= report(name in entered, f"memcheck: {name} of sys.rs was run")
    return well


def main(tests, server):
    with open(SYS) as file:
        functions, unexplained = unsafe_functions(file.read())
    well = report(not unexplained, f"memcheck: unsafe blocks without a SAFETY comment: {unexplained or 'none'}")
    folder = tempfile.mkdtemp(prefix="wsson-memcheck-")
    os.chmod(folder, 0o777)
    try:
        well &= unit_tests(tests, folder)
        well &= life(server, folder)
        well &= coverage(tests, server, functions, folder)
    finally:
        shutil.rmtree(folder)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
