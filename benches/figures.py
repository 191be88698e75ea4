"""What was measured, and how it is printed: medians over the rounds, and ratios
to what a case stands beside, round by round, as median [lowest, highest]."""

import statistics
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Unit:
    """What a figure counts. `ratio` is the head of its ratio's column, if one is
    of interest."""

    head: str
    digits: int = 2
    ratio: str = ""


UNITS = {
    "rate": Unit("k calls/s", 1, "calls/s"),
    "trips": Unit("round trips"),
    "cpu_us": Unit("server µs", 2, "server µs"),
    "caller_us": Unit("caller µs", 1, "caller µs"),
    "p50_ms": Unit("p50 ms", 3, "p50"),
    "p99_ms": Unit("p99 ms", 3, "p99"),
    "longest_ms": Unit("longest ms", 3),
    "bytes": Unit("bytes a key", 0, "bytes"),
    "entry_bytes": Unit("bytes an entry", 0, "bytes"),
    "time_ms": Unit("ms", 3, "ms"),
    "found": Unit("share found", 3),
    "values": Unit("M values/CPU s", 2, "values/CPU s"),
    "instructions": Unit("instructions", 0, "instructions"),
    "ours": Unit("of them the module's", 0),
}


@dataclass
class Figures:
    """What was measured of one case: for each unit a value a round."""

    family: str
    group: str
    name: str
    beside: str = ""
    rounds: dict = field(default_factory=dict)

    def add(self, **values):
        for unit, value in values.items():
            if value is not None:
                self.rounds.setdefault(unit, []).append(value)

    def median(self, unit):
        return statistics.median(self.rounds[unit])

    def as_dict(self):
        return asdict(self)


# In so many calls what the 99th percentile leaves out is still several.
PART = 500


def percentiles(times, part=PART):
    """Of milliseconds in the order of the calls: the median, and the 99th
    percentile of each `part` calls, the median of these. So what comes with every
    hundredth call counts, and a pause of the machine does not decide."""
    count = max(len(times) // part, 1)
    bounds = [place * len(times) // count for place in range(count + 1)]
    parts = [sorted(times[first:end]) for first, end in zip(bounds, bounds[1:])]
    return {"p50_ms": statistics.median(times),
            "p99_ms": statistics.median(times[int(len(times) * 0.99)] for times in parts)}


def spread(values, digits=2):
    middle = statistics.median(values)
    return f"{middle:.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def ratios(mine, base, unit):
    """Round by round, how many times the base's figure is."""
    pairs = zip(mine.rounds[unit], base.rounds[unit])
    return [value / other for value, other in pairs if other]


def tables(all_figures):
    """The figures by family and group, in the order they came."""
    groups = {}
    for figures in all_figures:
        groups.setdefault((figures.family, figures.group), []).append(figures)
    return groups


def lines(group):
    """A table: its head and its rows, as texts."""
    units = [unit for unit in UNITS if any(unit in figures.rounds for figures in group)]
    by_name = {figures.name: figures for figures in group}
    compared = [unit for unit in units if UNITS[unit].ratio]
    head = ["", *(UNITS[unit].head for unit in units),
            *(f"{UNITS[unit].ratio} ×" for unit in compared), "beside"]
    rows = [head]
    for figures in group:
        base = by_name.get(figures.beside)
        row = [figures.name]
        for unit in units:
            known = unit in figures.rounds
            row.append(f"{figures.median(unit):.{UNITS[unit].digits}f}" if known else "")
        for unit in compared:
            both = base and unit in figures.rounds and unit in base.rounds
            values = ratios(figures, base, unit) if both else ()
            row.append(spread(values) if values else "")
        rows.append([*row, figures.beside])
    return rows


def print_table(title, group):
    rows = lines(group)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(title)
    for row in rows:
        cells = [cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("   ", "  ".join(cells).rstrip(), flush=True)
