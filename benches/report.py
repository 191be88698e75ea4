"""Tables and pictures from what was kept: docs/benchmarks.md, between its marks,
and docs/benchmarks/."""

import json
import platform
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from . import admission, cases, client, feast, request
from .figures import UNITS, Figures, lines, ratios, spread, tables
from .server import ROOT

KEPT = ROOT / "target/bench"
PAGE = ROOT / "docs/benchmarks.md"
BESIDE = ROOT / "docs/benchmarks"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

# What the summary shows: a family, where not all of it the beginning of a group,
# and a figure of it.
SUMMARY = [
    ("ratelimit", "", "cpu_us", "CPU time of the server for a call, in µs"),
    ("ratelimit", "", "p99_ms", "99th percentile of the latency at a fixed rate, in ms"),
    ("ratelimit", "", "bytes", "Memory a key, in bytes"),
    ("admission", "", "cpu_us", "CPU time of the server for a caller, in µs"),
    ("queue", "", "p50_ms", "Median, in ms"),
    ("queue", "", "p99_ms", "99th percentile, in ms"),
    ("cache", "", "cpu_us", "CPU time of the server for a call, in µs"),
    ("cache", "", "rate", "Thousands of calls a second, with pipelines"),
    ("waiters", "", "p99_ms", "99th percentile, in ms"),
    ("features", "reading 200 entities of 50", "time_ms", "Until the array is there, in ms"),
    ("features", "reading 200 entities of 50", "cpu_us", "CPU time of the server, in µs"),
    ("features", "reading 500 entities of 250", "time_ms", "Until the array is there, in ms"),
    ("features", "writing 200 entities of 50", "time_ms", "Until it is written, in ms"),
    ("features", "PING", "p99_ms", "99th percentile of PING, in ms"),
    ("features", "PING", "longest_ms", "The longest of 300, in ms"),
    ("scaling", "", "cpu_us", "CPU time of the server for a call, in µs"),
    ("uses", "", "p50_ms", "Median, in ms"),
    ("uses", "", "p99_ms", "99th percentile, in ms"),
    ("request", request.AT_SPEED, "cpu_us", "CPU time of the server for a request, in µs"),
    ("request", request.AT_SPEED, "rate", "Thousands of requests a second"),
    ("request", request.RELAY, "p50_ms", "Median, in ms"),
    ("request", request.ONE, "p50_ms", "Median, in ms"),
    ("request", request.ONE, "p99_ms", "99th percentile, in ms"),
    ("client", "a call", "caller_us", "CPU time of the caller for a call, in µs"),
    ("client", "200 entities", "time_ms", "Until the array is there, in ms"),
    ("feast", "", "time_ms", "Until the answer is there, in ms"),
    ("instructions", "", "instructions", "Instructions of the server for a call"),
    ("instructions", "", "ours", "Of them those of the module itself"),
]


@dataclass(frozen=True)
class Aim:
    """How many times the base's figure a case's is to be, at most or at least."""

    what: str
    family: str
    beginning: str
    unit: str
    case: str
    base: str
    bound: str
    value: float

    def is_met(self, ratio):
        return ratio <= self.value if self.bound == "≤" else ratio >= self.value


CPU, CALLS, TIME = "CPU time", "calls a second", "time to an array"
TENSORS = "reading 200 entities of 50"
IN_ONE_TRIP = (request.SERVE, request.AT_ONCE)
AIMS = [
    Aim(CPU, "ratelimit", "", "cpu_us", "ML.RATELIMIT", cases.SET, "≤", 0.9),
    Aim(CPU, "ratelimit", "", "cpu_us", "ML.RATELIMIT", "INCR", "≤", 1.4),
    Aim(CPU, "ratelimit", "", "cpu_us", "redis-cell", "ML.RATELIMIT", "≥", 2.5),
    Aim(CPU, "ratelimit", "", "cpu_us", "Lua, GCRA", "ML.RATELIMIT", "≥", 6),
    Aim(CPU, "ratelimit", "", "cpu_us", "three windows", "ML.RATELIMIT", "≤", 1.3),
    Aim(CPU, "ratelimit", "", "cpu_us", "denied", "ML.RATELIMIT", "≤", 1),
    *(Aim(CPU, "admission", "requests, tokens and a slot, a round", "cpu_us", way, admission.BOTH, "≥",
          times) for way, times in (("LiteLLM's calls", 4), ("one Lua script", 2.5))),
    Aim(CPU + ", a round trip a call", "admission", "three limits, a round", "cpu_us",
        "ML.ADMIT of three", "three ML.RATELIMIT", "≤", 0.5),
    Aim(CPU + ", pipelined", "admission", "three limits, in pipelines", "cpu_us",
        "ML.ADMIT of three", "three ML.RATELIMIT", "≤", 1.1),
    *(Aim(f"{CPU}, {kind}", "admission", f"holds open on one key, {kind}", "cpu_us",
          admission.name(verb, count), admission.name(verb, 0), "≤", 1.3)
      for kind in admission.KINDS for verb in ("charged", "opened and settled")
      for count in admission.OPEN[1:] if (kind, verb) != ("permits", "charged")),
    Aim(CALLS, "cache", "", "rate", "ML.CACHEGET", cases.GET, "≥", 0.97),
    Aim(CALLS, "cache", "", "rate", "ML.CACHESET", cases.SET, "≥", 0.95),
    Aim(CALLS, "cache", "", "rate", "ML.CACHEMGET of 100", cases.MGET, "≥", 0.95),
    Aim(TIME, "features", TENSORS, "time_ms", "HMGET, pipelined", "tensor of rows", "≥", 50),
    Aim(TIME, "features", TENSORS, "time_ms", "HGETALL, pipelined", "tensor of rows", "≥", 30),
    Aim(TIME, "features", TENSORS, "time_ms", "tensor of rows", "MGET, packed", "≤", 3),
    *(Aim(f"{of} of a request, {client}, {link}", "request", request.title(client, link), unit, way,
          request.HAND, "≤", times)
      for link, times in ((request.DIRECT, 0.6), (request.FAR, 0.5))
      for client in (request.REDIS_PY, request.ASYNCIO)
      for unit, of in (("p50_ms", "median"), ("p99_ms", "p99"))
      for way in IN_ONE_TRIP),
    *(Aim("CPU time of a request", "request", request.AT_SPEED, "cpu_us", request.HAND, way, "≥", 1.5)
      for way in IN_ONE_TRIP),
    Aim("CPU time of a request", "request", request.AT_SPEED, "cpu_us", *IN_ONE_TRIP, "≤", 0.8),
    Aim("median of a request, redis-py", "request", request.title(request.REDIS_PY, request.DIRECT),
        "p50_ms", *IN_ONE_TRIP, "≤", 1),
    Aim("CPU time of the caller", "client", "", "caller_us", client.OURS, client.RAW, "≤", 1.2),
    Aim(TIME, "client", "", "time_ms", client.ROWS, client.PACKED, "≤", 1.3),
    *(Aim("time to an answer of Feast", "feast", feast.name(max(feast.ENTITIES), feast.FLOATS),
          "time_ms", way, feast.THEIRS, "≤", times)
      for way, times in ((feast.OURS, 0.6), (feast.TENSOR, 0.06))),
]


def machine():
    cpu = "an unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
        cores = sum(line.startswith("processor") for line in
                    Path("/proc/cpuinfo").read_text().splitlines())
        memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    except OSError:
        return platform.platform()
    return f"{cpu}, {cores} cores, {memory} GiB, Linux {platform.release()}"


class Run:
    """What was kept of one server."""

    def __init__(self, path):
        kept = json.loads(path.read_text())
        self.about = kept["about"]
        self.server = self.about["server"]
        self.file = path.stem
        self.tables = tables(Figures(**figures) for figures in kept["figures"])

    def find(self, family, beginning):
        return {key: group for key, group in self.tables.items()
                if key[0] == family and key[1].startswith(beginning)}


def write():
    runs = [Run(path) for path in sorted(KEPT.glob("*.json"))]
    if not runs:
        raise SystemExit(f"nothing is kept under {KEPT}: scripts/bench --keep target/bench/NAME.json")
    BESIDE.mkdir(parents=True, exist_ok=True)
    for run in runs:
        text = [f"# {run.server}\n", about(run)]
        for (family, group), several in run.tables.items():
            text.append(f"## {family}: {group}\n\n{markdown(lines(several))}")
        (BESIDE / f"{run.file}.md").write_text("\n".join(text))
    text = ["\n".join(f"- {about(run).strip()} [All figures](benchmarks/{run.file}.md)."
                      for run in runs) + "\n"]
    text += pictures(runs)
    text.append(f"### What was aimed at\n\n{markdown(aims(runs))}")
    sections = {}
    for family, beginning, unit, title in SUMMARY:
        groups = {}
        for run in runs:
            for key, group in run.find(family, beginning).items():
                groups.setdefault(key, {})[run.server] = group
        for (_, group), by_server in groups.items():
            section = sections.setdefault((family, group), [f"### {family}: {group}\n"])
            section.append(f"{title}:\n\n{markdown(across(by_server, unit))}")
    for section in sections.values():
        text += section
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(text) + "\n" + END + rest.split(END)[1])


def about(run):
    about = run.about
    # Where things lay on that machine is of no use on another.
    command = re.sub(r" --keep \S+", "", re.sub(r"(?<= )/\S*/", "", about["command"]))
    return (f"{run.server}: `{command}`, {about['rounds']} rounds, mlserve "
            f"{about['commit']}, on {about['machine']}.\n")


def aims(runs):
    """A row an aim, a column a server: the ratio, and whether it is what it is to be."""
    rows = [["", *(run.server for run in runs), "aim"]]
    for aim in AIMS:
        row = [f"{aim.what}: {aim.case} / {aim.base}"]
        for run in runs:
            groups = run.find(aim.family, aim.beginning).values()
            of_name = {figures.name: figures for group in groups for figures in group}
            if aim.case in of_name and aim.base in of_name:
                values = ratios(of_name[aim.case], of_name[aim.base], aim.unit)
                met = aim.is_met(statistics.median(values))
                row.append(spread(values) + (", met" if met else ""))
            else:
                row.append("")
        rows.append([*row, f"{aim.bound} {aim.value}"])
    return rows


def across(by_server, unit):
    """A row a case, a column a server: the median, and the ratio to what the case
    stands beside."""
    names = list(dict.fromkeys(figures.name for group in by_server.values() for figures in group
                               if unit in figures.rounds))
    rows = [["", *by_server, "beside"]]
    for name in names:
        row, beside = [name], ""
        for group in by_server.values():
            of_name = {figures.name: figures for figures in group}
            figures = of_name.get(name)
            if figures is None or unit not in figures.rounds:
                row.append("")
                continue
            beside = figures.beside
            cell = f"{figures.median(unit):,.{UNITS[unit].digits}f}"
            base = of_name.get(beside)
            if UNITS[unit].ratio and base and base is not figures:
                cell += f" = {spread(ratios(figures, base, unit))} ×"
            row.append(cell)
        rows.append([*row, beside if beside != name else ""])
    return rows


def markdown(rows):
    head, *rest = rows
    rule = ["---", *["---:"] * (len(head) - 2), "---"]
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, rule, *rest])


def pictures(runs):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "mlserve", "font.size": 9})
    import matplotlib.pyplot as plot

    text = []

    def keep(figure, name, what):
        figure.tight_layout()
        figure.savefig(BESIDE / f"{name}.svg", metadata={"Date": None})
        plot.close(figure)
        text.append(f"![{what}](benchmarks/{name}.svg)\n")

    for family in ("ratelimit", "cache"):
        figure, axes = plot.subplots(figsize=(8, 4.5))
        if bars(axes, runs, family, "cpu_us"):
            axes.set_xlabel("CPU time of the server for a call, in µs")
            keep(figure, family, f"{family}: CPU time of the server for a call")
    links = (request.DIRECT, request.FAR)
    figure, several = plot.subplots(1, len(links), figsize=(8, 3.6))
    drawn = [bars(axes, runs, "request", "p50_ms", request.title(request.REDIS_PY, link))
             for axes, link in zip(several, links)]
    if all(drawn):
        for axes, link in zip(several, links):
            axes.set(title=link, xlabel="ms, median")
        several[1].set_yticklabels([])
        keep(figure, "request", f"request: ms until a request has its answer, {request.REDIS_PY}")
    for name, axis, unit, label in SCALES:
        figure, several = plot.subplots(1, len(runs), figsize=(4 * len(runs), 3.4), squeeze=False,
                                        sharey=True)
        drawn = [curves(axes, run, axis, unit) for axes, run in zip(several[0], runs)]
        if all(drawn):
            first = several[0][0]  # All have its scale.
            if unit == "rate":
                first.set_ylim(bottom=0)
            else:
                first.set_yscale("log")
            first.set_ylabel(label)
            first.legend(fontsize=7)
            keep(figure, name, f"{name}: {label}")
    return text


SCALES = [
    ("keys", ("scaling", " keys"), "rate", "thousands of calls a second"),
    ("pipelines", ("scaling", "pipelines of"), "rate", "thousands of calls a second"),
    ("connections", ("scaling", " connections"), "rate", "thousands of calls a second"),
    ("entities", ("features", " entities of 50 features into"), "time_ms", "ms to an array"),
    ("callers", ("waiters", ""), "p99_ms", "ms until all have the answer, p99"),
]


def bars(axes, runs, family, unit, beginning=""):
    names = []
    for place, run in enumerate(runs):
        for group in run.find(family, beginning).values():
            # Calls of many keys would dwarf the others.
            group = [figures for figures in group if not figures.name.endswith("of 100")]
            names = [figures.name for figures in group]
            height = 0.8 / len(runs)
            at = [row + place * height for row in range(len(names))]
            axes.barh(at, [figures.median(unit) for figures in group], height, label=run.server)
    if not names:
        return names
    axes.set_yticks([row + 0.4 - 0.4 / len(runs) for row in range(len(names))], names)
    axes.invert_yaxis()
    axes.legend(fontsize=7)
    return names


def curves(axes, run, axis, unit):
    """A line for each case, over the number that the groups' names hold (or, where
    the cases are numbers, over them)."""
    family, end = axis
    by_name = {}
    for (_, group), several in run.find(family, "").items():
        if end and (end not in group or group.startswith("writing")):
            continue
        for figures in several:
            text = group if end else figures.name
            number = next(int(word.replace(",", "")) for word in text.split()
                          if word.replace(",", "").isdigit())
            points = by_name.setdefault(figures.name if end else "callers", ([], []))
            points[0].append(number)
            points[1].append(figures.median(unit))
    for name, (numbers, values) in by_name.items():
        axes.plot(numbers, values, marker="o", markersize=3, label=name)
    axes.set(xscale="log", title=run.server, xlabel=end.split(" of ")[0].strip() or "callers")
    return bool(by_name)
