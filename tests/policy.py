"""What may be linked into the binary: licences, sources, duplicates, and how many crates.

A small stand-in for `cargo deny check licenses bans sources`, which takes four minutes to build and adds nothing here:
its fourth check, advisories, needs a database that is fetched from a git host. Reads `cargo metadata`; prints `ok` lines.
"""
import json
import re
import subprocess
import sys

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC",
    "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}
# Each would bring a runtime, a second TLS or a second way of doing what std does.
BANNED = {"async-std", "clap", "native-tls", "openssl", "openssl-sys", "regex", "serde", "smol", "thiserror", "tokio"}
# architecture.md, "Dependencies". With TLS they are these. It may shrink, and grows only with a reason in the commit.
CRATES_MAX = 45
failed = False


def check(name, wrong):
    global failed
    failed |= bool(wrong)
    print(f"not ok {name}: {'; '.join(wrong)}" if wrong else f"ok {name}")


def licence_is_allowed(expression):
    """SPDX: `OR` and the old `/` are a choice, `AND` is not; parentheses are resolved from the inside."""
    if not expression:
        return False
    while match := re.search(r"\(([^()]*)\)", expression):
        inner = "MIT" if licence_is_allowed(match[1]) else "none"
        expression = expression[: match.start()] + inner + expression[match.end():]
    choices = re.split(r"\s+OR\s+|/", expression)
    return any(all(part.strip() in ALLOWED for part in re.split(r"\s+AND\s+", choice)) for choice in choices)


def linked(metadata):
    """The packages that normal dependencies reach; not those of tests and build scripts."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, todo = set(), [metadata["resolve"]["root"]]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return [package for package in metadata["packages"] if package["id"] in found]


def named(package):
    return f"{package['name']} {package['version']}"


host = next(line[6:] for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if line.startswith("host: "))
command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
metadata = json.loads(subprocess.check_output(command))
packages = linked(metadata)
everything = [package for package in metadata["packages"] if package["id"] != metadata["resolve"]["root"]]

check("licences of what is linked",
      [f"{named(package)}: {package['license']}" for package in packages if not licence_is_allowed(package["license"])])
check("every crate comes from a registry",
      [named(package) for package in everything if not (package["source"] or "").startswith("registry+")])
names = [package["name"] for package in packages]
check("no crate is linked twice", sorted({name for name in names if names.count(name) > 1}))
check("no banned crate is linked", sorted(BANNED.intersection(names)))
check(f"at most {CRATES_MAX} crates are linked ({len(packages)})",
      [f"{len(packages)}: {', '.join(sorted(names))}"] if len(packages) > CRATES_MAX else [])
sys.exit(failed)
