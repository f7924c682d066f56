"""Runs the rows and keeps the table. The rows are in rows_*.py; each is a function marked with `@row(number)` that
yields figures: (what was done, what came out, the bound, whether it holds).
"""
import os
import re
import sys
import time
import traceback

import report
import rows_budget
import rows_doors
import rows_flood
import rows_frames
import rows_groups
import rows_process
import rows_proxy
import rows_strangers
import rows_streams
import rows_workers
import rows_tabs

HERE = os.path.dirname(os.path.abspath(__file__))
# None: a figure to compare with, that nothing bounds.
VERDICTS = {True: "ok", False: "**no**", None: "info"}
MODULES = (rows_strangers, rows_frames, rows_flood, rows_process, rows_streams, rows_budget, rows_doors, rows_groups, rows_proxy, rows_workers, rows_tabs)


def wait_for_quiet():
    """Others measure on this machine too: this file is how they ask for silence."""
    while os.path.exists("/tmp/quiet"):
        time.sleep(1)


def figures(function, quick):
    """A row that breaks off is a row that does not hold, and the others are run."""
    try:
        yield from function(quick)
    except Exception as error:
        traceback.print_exc()
        yield "the attack itself broke off", f"{type(error).__name__}: {error}".replace("|", "¦")[:200], "whole", False


def attack(row, function, quick):
    wait_for_quiet()
    begin, lines, failed = time.monotonic(), [], False
    for what, found, bound, holds in figures(function, quick):
        failed |= holds is False
        lines.append(f"| {row} | {what} | {found} | {bound} | {VERDICTS[holds]} |")
        print(lines[-1], flush=True)
    print(f"  row {row}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return lines, failed


def main(words):
    quick = "--quick" in words
    rows = {row: function for module in MODULES for row, function in report.rows_of(module).items()}
    chosen = [int(word) for word in words if word != "--quick"] or sorted(rows)
    if unknown := [row for row in chosen if row not in rows]:
        sys.exit(f"no such row: {unknown}; there are {sorted(rows)}")
    any_failed = False
    for row in chosen:
        lines, failed = attack(row, rows[row], quick)
        any_failed |= failed
        if not quick:
            report.write(os.path.join(HERE, "RESULTS.md"), {row: lines})
    sys.exit(1 if any_failed else 0)


if __name__ == "__main__":
    if any(not re.fullmatch(r"--quick|\d+", word) for word in sys.argv[1:]):
        sys.exit("usage: tests/lab/attack/run [--quick] [ROW...]")
    main(sys.argv[1:])
