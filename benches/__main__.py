"""See scripts/bench."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from . import (
    admission, client, commands, events, feast, features, instructions, queue, report, request, semantic,
    uses, waiters,
)
from .figures import print_table, tables
from .server import MODULE, ROOT, started

FAMILIES = ("ratelimit", "admission", "queue", "cache", "waiters", "features", "events",
            "semantic", "uses", "request", "client", "feast", "scaling", "instructions")

# How much of everything. `tiny` shows that the harness works, and no more.
FULL = {
    "requests": 300_000, "keys": 100_000, "value_bytes": 100,
    "scaled_keys": (1_000, 10_000, 100_000, 1_000_000),
    "rate": 2_000, "seconds": 3.0, "reads": 20_000, "weighed": 100_000, "tallied": 1_000_000, "largest": 1_000_000,
    "pings": 300, "calls": 10_000, "counted": 20_000, "releases": 2_000,
    "entities": features.ENTITIES, "features": features.FEATURES,
    "dims": (384, 1536), "entries": (1_000, 10_000, 100_000), "most": 1_000_000, "questions": 300, "inserts": 5_000,
}
TINY = {
    "requests": 300, "keys": 50, "value_bytes": 10, "scaled_keys": (20, 50), "rate": 500, "seconds": 0.1,
    "reads": 50, "weighed": 50, "tallied": 50, "largest": 1_000, "pings": 20, "calls": 50, "counted": 320, "releases": 20,
    "entities": (1, 20), "features": (10,),
    "dims": (16,), "entries": (30, 60), "most": 80, "questions": 20, "inserts": 20,
}


def options():
    parser = argparse.ArgumentParser(prog="scripts/bench", add_help=False)
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--server", default="redis-server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load-peer", action="append", default=[])
    parser.add_argument("--ten-million", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--report", action="store_true")
    for name in ("requests", "keys", "value-bytes", "rate"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("dims", "entries"):
        parser.add_argument(f"--{name}", type=int, action="append")
    given = parser.parse_args()
    for name, value in (TINY if given.tiny else FULL).items():
        if getattr(given, name, None) is None:
            setattr(given, name, value)
    unknown = set(given.families) - set(FAMILIES)
    if unknown:
        parser.error(f"there is no family {', '.join(sorted(unknown))}")
    if given.report and given.families and not given.keep:
        parser.error("--report shows what is kept: say where, with --keep")
    return given


def measure(family, server, given):
    match family:
        case "admission":
            return admission.family(server, given)
        case "queue":
            return queue.family(server, given)
        case "waiters":
            return waiters.family(server, given)
        case "features":
            return features.family(server, given)
        case "events":
            return events.family(server, given)
        case "semantic":
            return semantic.family(server, given)
        case "uses":
            return uses.family(server, given)
        case "request":
            return request.family(server, given)
        case "client":
            return client.family(server, given)
        case "feast":
            return feast.family(server, given)
        case "scaling":
            return commands.scaling(server, given)
        case _:
            return commands.family(family, server, given)


def main():
    given = options()
    if given.report and not given.families:
        return report.write()
    meanwhile = report.Meanwhile()
    kept = []
    with started(given.server, [MODULE]) as server:
        name = server.name()
    for family in given.families or FAMILIES:
        if family == "instructions":
            measured = list(instructions.family(given.server, given))
        else:
            with started(given.server, [MODULE, *given.load_peer]) as server:
                measured = list(measure(family, server, given))
        for (_, group), several in tables(measured).items():
            print_table(f"{family}: {group}", several)
            print()
        kept += [figures.as_dict() for figures in measured]
    if given.keep:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True,
                                capture_output=True, check=False).stdout.strip()
        about = {"server": name, "machine": report.machine(), "commit": commit,
                 "command": " ".join(["scripts/bench", *sys.argv[1:]]), "rounds": given.rounds,
                 "others": meanwhile.cores()}
        given.keep.parent.mkdir(parents=True, exist_ok=True)
        given.keep.write_text(json.dumps({"about": about, "figures": kept}, indent=1))
    if given.report:
        report.write()


if __name__ == "__main__":
    main()
