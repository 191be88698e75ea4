"""What servers do at this moment, in the terminal: `mlserve top`.

Rates are the difference of two readings of INFO ml and ML.STATS.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from mlserve.readings import Nodes, Reading, increase, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Group
    from rich.table import Table

__all__ = ["Report", "compared", "picture", "run"]


class Report(NamedTuple):
    """What happened between two readings of some nodes: rows of names and figures.

    A rate is a second's; `hit_ratio` is from 0 to 1, None where nothing was read.
    """

    nodes: list[dict[str, Any]]
    namespaces: list[dict[str, Any]]
    """Of each node, the busiest first."""
    most_denied: list[dict[str, Any]]
    """The keys that are denied most of late, by each node's own reckoning."""
    notes: list[str]
    """What is missing, and why."""


def compared(before: Sequence[Reading], after: Sequence[Reading], *, rows: int = 20) -> Report:
    """Compare two readings of the same nodes.

    At most so many `rows` of namespaces and of keys.
    """
    earlier = {reading.node: reading for reading in before}
    nodes, namespaces, denied, notes = [], [], [], []
    for reading in after:
        if reading.problem is not None:
            nodes.append({"node": reading.node, "state": "unreachable"})
            notes.append(f"{reading.node}: {reading.problem}")
            continue
        was = earlier.get(reading.node)
        if was is None or was.problem is not None:
            nodes.append({"node": reading.node, "state": "first reading"})
            continue
        restarted = was.run != reading.run
        state = "restarted" if restarted else "up"
        seconds = max(reading.at - was.at, 1e-6)
        info = {} if restarted else was.info
        nodes.append({"node": reading.node, "state": state, **of_node(info, reading, seconds)})
        if reading.denied is not None:
            notes.append(
                f"{reading.node}: no namespaces, as ML.STATS is not allowed: {reading.denied}"
            )
            continue
        stats = {} if restarted else was.stats
        for name, row in by_namespace(stats, reading.stats, seconds):
            namespaces.append({"node": reading.node, "namespace": shown(name), **row})
        for counts in reading.stats.get("limits", {}).values():
            for key, count in counts.get("most_denied", []):
                denied.append({"node": reading.node, "key": shown(key), "denied": count})
    namespaces.sort(key=calls_of, reverse=True)
    denied.sort(key=lambda row: -int(row["denied"]))
    left_out = len(namespaces) - rows
    if left_out > 0:
        notes.append(f"{left_out} more namespaces, which are called less")
    return Report(nodes, namespaces[:rows], denied[:rows], notes)


def calls_of(row: Mapping[str, Any]) -> float:
    """How much a namespace is used."""
    used = ["allowed_per_s", "denied_per_s", "hits_per_s", "misses_per_s", "features_per_s"]
    return sum(float(row[name]) for name in used)


def ratio(part: float, rest: float) -> float | None:
    """A part of the whole."""
    return part / (part + rest) if part + rest else None


def of_node(before: Mapping[str, int], reading: Reading, seconds: float) -> dict[str, Any]:
    """The figures of a node, by INFO ml."""
    now = reading.info

    def rate(*names: str) -> float:
        return sum(increase(before, now, name) for name in names) / seconds

    ways = ["fixed", "sliding", "gcra"]
    hits, misses = rate("cache_hits"), rate("cache_misses")
    return {
        "allowed_per_s": rate(*(f"ratelimit_{way}_allowed" for way in ways)),
        "denied_per_s": rate(*(f"ratelimit_{way}_denied" for way in ways)),
        "holds": now.get("ratelimit_open_holds", 0),
        "permits": now.get("permit_held", 0),
        "queue": now.get("admission_waiters", 0),
        "queued_per_s": rate("admission_waited"),
        "hits_per_s": hits,
        "misses_per_s": misses,
        "hit_ratio": ratio(hits, misses),
        "saved_s_per_s": rate("cache_saved_ms") / 1000,
        "leases": now.get("cache_open_leases", 0),
        "lease_waiters": now.get("cache_waiters", 0),
        "features_per_s": rate("features_found"),
        "missing_per_s": rate("features_missing", "features_too_old"),
    }


def by_namespace(
    before: Mapping[str, Mapping[bytes, Any]],
    now: Mapping[str, Mapping[bytes, Any]],
    seconds: float,
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The figures of the namespaces, by ML.STATS."""
    for name in sorted({name for section in now.values() for name in section}):

        def rate(section: str, *counters: str, name: bytes = name) -> float:
            was = before.get(section, {}).get(name, {})
            counts = now.get(section, {}).get(name, {})
            return sum(increase(was, counts, counter) for counter in counters) / seconds

        hits, misses = rate("cache", "hits"), rate("cache", "misses")
        queued, waited = rate("limits", "waiting"), rate("limits", "waited_ms")
        yield (
            name,
            {
                "allowed_per_s": rate("limits", "allowed"),
                "denied_per_s": rate("limits", "denied"),
                "queued_per_s": queued,
                "mean_wait_s": waited / queued / 1000 if queued else None,
                "hits_per_s": hits,
                "misses_per_s": misses,
                "hit_ratio": ratio(hits, misses),
                "stale_per_s": rate("cache", "stale"),
                "saved_s_per_s": rate("cache", "saved_ms") / 1000,
                "leases_per_s": rate("cache", "leases"),
                "coalesced_per_s": rate("cache", "coalesced"),
                "features_per_s": rate("features", "found"),
                "missing_per_s": rate("features", "missing", "too_old"),
            },
        )


# --- for people ---------------------------------------------------------------


def figure(name: str, value: Any) -> str:
    """A figure in a few characters."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if name == "hit_ratio":
        return f"{value:.1%}"
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if name.endswith("_s") and not name.endswith("_per_s") else f"{value:.1f}"


HEADINGS = {
    "node": "node",
    "state": "state",
    "namespace": "namespace",
    "key": "key",
    "allowed_per_s": "allowed/s",
    "denied_per_s": "denied/s",
    "queue": "queue",
    "mean_wait_s": "wait s",
    "hits_per_s": "hits/s",
    "hit_ratio": "hit ratio",
    "saved_s_per_s": "saved s/s",
    "leases": "leases",
    "lease_waiters": "waiters",
    "leases_per_s": "leases/s",
    "features_per_s": "features/s",
    "missing_per_s": "missing/s",
    "denied": "denied",
}
"""What stands in the tables, in this order; the other figures are in --json."""


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of rows, which may have different figures."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = [name for name in HEADINGS if any(name in row for row in rows)]
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        left = name in ("node", "state", "namespace", "key")
        made.add_column(HEADINGS[name], justify="left" if left else "right", no_wrap=not left)
    for row in rows:
        style = {"unreachable": "red", "restarted": "yellow"}.get(str(row.get("state")), "")
        cells = [figure(name, row[name]) if name in row else "" for name in columns]
        # As text: a key may look like the markup of a table.
        made.add_row(*(Text(cell) for cell in cells), style=style)
    return made


def picture(report: Report) -> Group:
    """The tables, for a terminal."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [table("Nodes", report.nodes)]
    if report.namespaces:
        parts.append(table("Namespaces", report.namespaces))
    if report.most_denied:
        parts.append(table("Denied most of late", report.most_denied))
    parts += [Text(note, style="yellow") for note in report.notes]
    return Group(*parts)


def lines(report: Report) -> list[str]:
    """The same in plain lines: what it is of, then name=figure."""
    parts = [("node", report.nodes), ("namespace", report.namespaces), ("key", report.most_denied)]
    found = []
    for what, rows in parts:
        for row in rows:
            figures = (f"{name}={figure(name, value)}" for name, value in row.items())
            found.append(f"{what} {' '.join(figures)}")
    return found + [f"note {note}" for note in report.notes]


def reports(nodes: Nodes, seconds: float, rows: int) -> Iterator[Report]:
    """A report each so many seconds, without end."""
    before = nodes.read()
    while True:
        time.sleep(seconds)
        after = nodes.read()
        yield compared(before, after, rows=rows)
        before = after


def run(options: argparse.Namespace) -> int:
    """Show reports until Ctrl-C; one with --once."""
    live = sys.stdout.isatty() and not options.once and not options.json
    if live:
        try:
            from rich.live import Live
        except ImportError:
            print("tables want: pip install 'redis-mlserve[top]'", file=sys.stderr)
            live = False
    nodes = Nodes(options.url, timeout=options.timeout)
    found = reports(nodes, options.interval, options.rows)
    try:
        if live:
            with Live("reading …", screen=True, auto_refresh=False) as screen:
                for report in found:
                    screen.update(picture(report), refresh=True)
        for report in found:
            if options.json:
                print(json.dumps(report._asdict()), flush=True)
            else:
                print("\n".join(lines(report)), flush=True)
            if options.once:
                up = any(row["state"] != "unreachable" for row in report.nodes)
                return int(not up)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # The reader has seen enough; what is buffered still has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        nodes.close()
    return 0
