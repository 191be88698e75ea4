"""Tables and pictures from what was kept: docs/benchmarks.md, between the marks of each family,
and docs/benchmarks/."""

import json
import os
import platform
import re
import statistics
import time
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from . import admission, cases, client, feast, request, semantic
from .figures import UNITS, Figures, lines, ratios, spread, tables
from .server import ROOT

KEPT = ROOT / "target/bench"
PAGE = ROOT / "docs/benchmarks.md"
BESIDE = ROOT / "docs/benchmarks"
RATIOS = (
    "A ratio (×) is the median of the ratios of the rounds, in brackets the lowest and the highest: "
    "it need not be that of the medians that stand beside each other."
)

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
    *(("semantic", f"{semantic.HITS} {entries}", "time_ms", "Until the answer is there, in ms")
      for entries in ("10,000 ", "100,000 ")),
    ("semantic", f"{semantic.HITS} 100,000 ", "cpu_us", "CPU time of the event loop for a call, in µs"),
    ("semantic", f"{semantic.HITS} 100,000 ", "found", "Share of the answers that are found"),
    ("semantic", f"{semantic.MISSES} 100,000 ", "time_ms", "Until it is known that there is none, in ms"),
    ("semantic", semantic.HITS + " 1,000,000 ", "time_ms", "Until the answer is there, in ms"),
    ("semantic", semantic.PINGS, "p50_ms", "Median, in ms"),
    ("semantic", semantic.PINGS, "p99_ms", "99th percentile, in ms"),
    ("semantic", semantic.INSERTS, "rate", "Thousands of calls a second, with pipelines"),
    ("semantic", semantic.INSERTS, "cpu_us", "CPU time of the server for a call, in µs"),
    ("semantic", semantic.MEMORY + " 100,000 ", "entry_bytes", "In bytes"),
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
    """How many times the base's figure a case's is to be, at most or at least; or what it
    is to be itself, where there is no base."""

    what: str
    family: str
    beginning: str
    unit: str
    case: str
    base: str
    bound: str
    value: float

    def is_met(self, value):
        return value <= self.value if self.bound == "≤" else value >= self.value

    def figures(self, group):
        """What it is about, round by round; nothing where that was not measured."""
        of_name = {figures.name: figures for figures in group}
        case, base = of_name.get(self.case), of_name.get(self.base)
        if case and base:
            return ratios(case, base, self.unit)
        return case.rounds[self.unit] if case and not self.base else []


CPU, CALLS, TIME = "CPU time", "calls a second", "time to an array"
TENSORS = "reading 200 entities of 50"
IN_ONE_TRIP = (request.SERVE, request.AT_ONCE)
LIMITS, CACHE = "limits", "cache"
AIMS = [
    *(Aim("instructions", "instructions", f"{group}: ", "instructions", case, base, "≤", times)
      for group, case, base, times in (
          (LIMITS, "ML.RATELIMIT", cases.SET, 0.85), (CACHE, "ML.CACHESET", cases.SET, 1.1),
          (CACHE, "ML.CACHEGET", cases.GET, 1.2))),
    Aim(CPU, "ratelimit", "", "cpu_us", "ML.RATELIMIT", cases.SET, "≤", 1.02),
    Aim(CPU, "ratelimit", "", "cpu_us", "redis-cell", "ML.RATELIMIT", "≥", 2),
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
      for way in (*IN_ONE_TRIP, request.CLIENT_SERVE)),
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
    *(Aim(f"time to an answer, 10,000 × {dims}", "semantic", semantic.title(semantic.HITS, dims, 10_000),
          "time_ms", semantic.SEMGET, way, "≤", 1)
      for dims in (384, 1536) for way in (semantic.ALONE, semantic.FLAT, semantic.GRAPH, semantic.EXACT)),
    Aim("µs of the event loop, 100,000 × 384", "semantic", semantic.title(semantic.HITS, 384, 100_000),
        "cpu_us", semantic.IN_THE_LOOP, "", "≤", 1_500),
    *(Aim(f"inserts, 100,000 × {dims}, one of both is enough", "semantic",
          semantic.title(semantic.INSERTS, dims, 100_000), "rate", semantic.SEMSET, way, "≥", times)
      for dims in (384, 1536) for way, times in ((semantic.VADD, 20), (semantic.SET, 0.5))),
    *(Aim(f"bytes of an entry, 100,000 × {dims}", "semantic", semantic.title(semantic.MEMORY, dims, 100_000),
          "entry_bytes", semantic.SEMSET, "", "≤", round(1.7 * dims + 150)) for dims in (384, 1536)),
    Aim("p99 of PING in ms beside questions, 1,000,000 × 384", "semantic",
        semantic.title(semantic.PINGS, 384, 1_000_000), "p99_ms", semantic.SEMGET, "", "≤", 2),
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


class Meanwhile:
    """A span of time, to know afterwards how much else the machine did in it."""

    def __init__(self):
        self.start = time.monotonic()
        self.before = self.others()

    @staticmethod
    def others():
        """CPU seconds of all but this process and what it has waited for."""
        everybody = Path("/proc/stat").read_text().split(maxsplit=9)[1:8]
        user, nice, system, _, _, irq, soft = map(int, everybody)
        ours = sum(os.times()[:4])
        return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK") - ours

    def cores(self):
        """How many cores others kept busy, as a mean."""
        return max((self.others() - self.before) / (time.monotonic() - self.start), 0)


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

    def only(self, family):
        """The same of one family."""
        some = copy(self)
        some.tables = self.find(family, "")
        return some


def write():
    runs = [Run(path) for path in sorted(KEPT.glob("*.json"))]
    if not runs:
        raise SystemExit(f"nothing is kept under {KEPT}: scripts/bench --keep target/bench/NAME.json")
    BESIDE.mkdir(parents=True, exist_ok=True)
    for run in runs:
        families = list(dict.fromkeys(family for family, _ in run.tables))
        whose = f"{families[0]}, {run.server}" if len(families) == 1 else run.server
        text = [f"# {whose}\n", about(run), f"{RATIOS}\n"]
        for (family, group), several in run.tables.items():
            text.append(f"## {family}: {group}\n\n{markdown(lines(several))}")
        (BESIDE / f"{run.file}.md").write_text("\n".join(text))
    page = PAGE.read_text()
    for family in dict.fromkeys(family for family, *_ in SUMMARY):
        page = put(page, family, [run.only(family) for run in runs])
    PAGE.write_text(page)


def put(page, family, runs):
    """The page with what was kept of a family between its marks; as it is, where nothing was."""
    runs = [run for run in runs if run.tables]
    if not runs:
        return page
    begin, end = f"<!-- {family} -->\n", f"<!-- end of {family} -->\n"
    before, rest = page.split(begin)
    return before + begin + "\n" + "\n".join(section(family, runs)) + "\n" + end + rest.split(end)[1]


def section(family, runs):
    text = ["\n".join(f"- {about(run).strip()} [All figures](benchmarks/{run.file}.md)."
                      for run in runs) + "\n"]
    text += pictures(family, runs)
    aimed = aims(runs)
    if len(aimed) > 1:
        text.append(f"### {family}: what was aimed at\n\n{markdown(aimed)}")
    sections = {}
    for family, beginning, unit, title in SUMMARY:
        groups = {}
        for run in runs:
            for key, group in run.find(family, beginning).items():
                groups.setdefault(key, {})[run.server] = group
        for (_, group), by_server in groups.items():
            one = sections.setdefault((family, group), [f"### {family}: {group}\n"])
            one.append(f"{title}:\n\n{markdown(across(by_server, unit))}")
    return text + [text for one in sections.values() for text in one]


def about(run):
    about = run.about
    # Where things lay on that machine is of no use on another.
    command = re.sub(r" --keep \S+", "", re.sub(r"(?<= )/\S*/", "", about["command"]))
    text = (f"{run.server}: `{command}`, {about['rounds']} rounds, mlserve "
            f"{about['commit']}, on {about['machine']}")
    if "others" in about:
        others = about["others"]
        text += (f", busy: others kept {others:.1f} of its cores at work meanwhile" if others >= 0.2
                 else ", which did nothing else")
    return text + ".\n"


def aims(runs):
    """A row an aim that anything was measured for, a column a server: what it is about, and
    whether it is what it is to be."""
    rows = [["", *(run.server for run in runs), "aim"]]
    for aim in AIMS:
        row = [f"{aim.what}: {aim.case}" + (f" / {aim.base}" if aim.base else "")]
        for run in runs:
            groups = run.find(aim.family, aim.beginning).values()
            values = aim.figures(figures for group in groups for figures in group)
            met = values and aim.is_met(statistics.median(values))
            row.append((spread(values) if values else "") + (", met" if met else ""))
        if any(row[1:]):
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
            if UNITS[unit].ratio and base and base is not figures and unit in base.rounds:
                cell += f" = {spread(ratios(figures, base, unit))} ×"
            row.append(cell)
        rows.append([*row, beside if beside != name else ""])
    return rows


def markdown(rows):
    head, *rest = rows
    rule = ["---", *["---:"] * (len(head) - 2), "---"]
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, rule, *rest])


def pictures(family, runs):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "mlserve", "font.size": 9})
    import matplotlib.pyplot as plot

    text = []

    def keep(figure, name, what):
        figure.tight_layout()
        figure.savefig(BESIDE / f"{name}.svg", metadata={"Date": None})
        text.append(f"![{what}](benchmarks/{name}.svg)\n")

    if family in BARS:
        figure, axes = plot.subplots(figsize=(8, 4.5))
        if bars(axes, runs, family, "cpu_us"):
            axes.set_xlabel("CPU time of the server for a call, in µs")
            keep(figure, family, f"{family}: CPU time of the server for a call")
    if family == "request":
        links = (request.DIRECT, request.FAR)
        figure, several = plot.subplots(1, len(links), figsize=(8, 3.6))
        drawn = [bars(axes, runs, family, "p50_ms", request.title(request.REDIS_PY, link))
                 for axes, link in zip(several, links)]
        if all(drawn):
            for axes, link in zip(several, links):
                axes.set(title=link, xlabel="ms, median")
            several[1].set_yticklabels([])
            keep(figure, family, f"request: ms until a request has its answer, {request.REDIS_PY}")
    for name, axis, unit, label in SCALES:
        if axis[0] != family:
            continue
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
    plot.close("all")
    return text


BARS = ("ratelimit", "cache")
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
