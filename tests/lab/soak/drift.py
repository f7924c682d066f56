"""From samples to figures: (what, found, bound, whether it holds; None where nothing bounds it)."""
import os
import platform
import time

from rig.peers import percentile
from rig.server import MIB

# The growth that a run may have over its quiet points; the noise of pages is a tenth of it. 350,000 connections in an hour.
GROWTH_MIB = 1.0
# In a short run, which has some two thousand connections behind its warm-up.
GROWTH_SHORT_MIB = 0.5
# Quiet points that are taken for warm-up: the heap finds its size.
WARM_UP = 2
FAULTS = ("lost", "duplicate", "reordered", "damaged", "unexpected")
HEAD = """# What the soak came to

`{command}` on {date}, {host}. Do not edit: the command writes it.

Clients, backends and the server share the processors. Busy and quiet times take turns; *quiet* is when only the readers and
the probe are connected, everything sent has arrived, and the server has had {tidy} s to give memory back.

| figure | measured | bound | |
|---|---|---|---|
"""


def slope(points):
    """Least squares: change of y for each x."""
    if len(points) < 2:
        return 0.0
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def line(row):
    status = row["status"]
    accepted = sum(listener["accepted"] for listener in status["listeners"])
    return (f"{row['s']:7.0f} s  {row['kind']}  RSS {row['rss'] / 1024:.0f} KiB  fds {row['fds']}  CPU {row['cpu']:.1f} s  "
            f"accepted {accepted}  out {status['messages_out']}")


def judge(soak):
    quiet, done = soak.quiet[min(WARM_UP, max(0, len(soak.quiet) - 3)):], soak.tally.get("done", {})
    faults = soak.tally.get("faults", {})
    figures = [("quiet points that were compared", f"{len(quiet)}", "≥ 3", len(quiet) >= 3)]
    figures += [(f"messages {kind}" if kind != "unexpected" else "answers, refusals and closes that were not expected",
                f"{faults.get(kind, 0)}", "0", not faults.get(kind)) for kind in FAULTS]
    figures.append(("server and traffic", "; ".join(soak.wrong) or "as expected", "as expected", not soak.wrong))
    if quiet:
        figures += drifts(quiet) + load(soak)
    figures += latency(soak)
    missed = [what for what in MUST if not any(key.startswith(what) for key in done)]
    figures.append(("kinds of traffic that did not happen", ", ".join(missed) or "none", "none", not missed))
    return figures


# The least that a soak must have done.
MUST = (
    "broadcasts", "directs d", "directs c", "echoes", "locks, whole", "locks without", "backends that died", "refused",
    "unfinished", "slow readers, closed", "silent", "logins that expired", "backends that came", "readers that came",
    "clients that logged in and closed", "clients that logged in and reset", "clients that logged in and ended",
)


def drifts(quiet):
    bound = GROWTH_MIB if quiet[-1]["s"] > 600 else GROWTH_SHORT_MIB
    hours = (quiet[-1]["s"] - quiet[0]["s"]) / 3600
    per_hour = slope([(row["s"] / 3600, row["rss"] / MIB) for row in quiet])
    grown = per_hour * hours
    descriptors = sorted({row["fds"] for row in quiet})
    return [
        (f"RSS over the quiet points ({quiet[0]['rss'] / MIB:.2f} MiB first, {quiet[-1]['rss'] / MIB:.2f} last): the line through them grows by",
         f"{grown:+.3f} MiB in {hours * 60:.1f} min ({per_hour:+.2f} MiB/h)", f"≤ {bound:g} MiB", grown <= bound),
        ("descriptors at the quiet points", ", ".join(map(str, descriptors)), "one number", len(descriptors) == 1),
    ]


def load(soak):
    first, last = soak.samples[0], soak.samples[-1]
    status = last["status"]
    accepted = sum(listener["accepted"] for listener in status["listeners"])
    busy = [row for row in soak.samples if row["kind"] == "busy"]
    closed = ", ".join(f"{code}: {count}" for code, count in status["closed"].items() if count)
    refused = ", ".join(f"{rule}: {count}" for rule, count in status["refused"].items() if count)
    done = ", ".join(f"{what}: {count}" for what, count in sorted(soak.tally.get("done", {}).items()))
    cpu = (last["cpu"] - first["cpu"]) / max(1, last["s"] - first["s"])
    figures = [
        ("messages queued for clients; that clients sent", f"{status['messages_out']}; {status['messages_in']}"),
        ("messages judged at the clients", f"{soak.tally['deliveries']}"),
        ("connections accepted", f"{accepted}"), ("closed, by code", closed), ("refused, by rule", refused), ("done", done),
        ("overflows; errors of backends", f"{status['overflows']}; {status['errors']}"),
        ("reloads; logs opened again", f"{soak.reloads}; {soak.reopened}"),
        ("the server's share of a core, quiet times included", f"{cpu:.1%}"),
        ("RSS at most while busy", f"{max((row['rss'] for row in busy), default=0) / MIB:.2f} MiB"),
    ]
    return [(what, found, "", None) for what, found in figures]


def latency(soak):
    took, wrong = soak.probed
    busy = [seconds for moment, seconds in took if any(begin <= moment < end for begin, end in soak.busy_times)]
    third = len(busy) // 3
    if wrong or third < 20:
        return [("the probe's direct messages", wrong or f"{len(busy)} only", "some", False)]
    first, last = percentile(busy[:third], .99) * 1e3, percentile(busy[-third:], .99) * 1e3
    bound = 4 * first + 50  # other work may come beside it
    return [(f"p99 of the probe's {len(busy)} direct messages while busy: last third, against {first:.2f} ms in the first",
             f"{last:.2f} ms", f"≤ {bound:.1f} ms", last <= bound)]


def verdicts(figures):
    names = {True: "ok", False: "not ok", None: "  info"}
    return [f"{names[holds]} {what}: {found}" + (f" ({bound})" if bound else "") for what, found, bound, holds in figures]


def write(path, soak, figures, command):
    names = {True: "ok", False: "**no**", None: "info"}
    host = f"{os.cpu_count()} processors, Linux {platform.release().split('-')[0]}, load {os.getloadavg()[1]:.1f}"
    parts = [HEAD.format(command=command, date=time.strftime("%Y-%m-%d"), host=host, tidy="6.5")]
    parts += [f"| {what} | {found} | {bound} | {names[holds]} |\n" for what, found, bound, holds in figures]
    for example in soak.tally.get("examples", []):
        parts.append(f"\n* {example}")
    parts.append("\nSamples at quiet points, at most forty of them:\n\n| s | RSS, KiB | descriptors | CPU, s | accepted | messages out |\n|---|---|---|---|---|---|\n")
    for row in soak.quiet[::len(soak.quiet) // 40 + 1]:
        status = row["status"]
        accepted = sum(listener["accepted"] for listener in status["listeners"])
        parts.append(f"| {row['s']:.0f} | {row['rss'] // 1024} | {row['fds']} | {row['cpu']:.1f} | {accepted} | {status['messages_out']} |\n")
    with open(path, "w") as file:
        file.writelines(parts)
