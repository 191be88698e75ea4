"""The family `instructions`: how many the server executes for a call, and where,
counted by callgrind. The same on every machine with these binaries, whatever else
it does meanwhile; caches and the kernel have no part in it."""

import random
import re
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from . import admission, cases, request
from .figures import Figures
from .server import started

KEYS = 2_000


def family(binary, options):
    title = f"{options.counted:,} calls on {KEYS:,} keys, in pipelines of 32"
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "out")
        callgrind = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}")
        with started(binary, under=callgrind) as server:
            for name, length, group in (("limits", 0, cases.RATELIMIT), ("cache", 100, cases.CACHE),
                                        ("features", 200, cases.FEATURES)):
                for case in group:
                    if not case.lua:
                        yield count(server, out, case, f"{name}: {title}", "x" * length, options)
            for what, ways in admission.WAYS.items():
                yield from count_callers(server, out, what, ways, options)
            yield from count_requests(server, out, options)


def count(server, out, case, group, value, options):
    def call(numbers):
        numbers = list(numbers)
        for first in range(0, len(numbers), 32):
            server.call_together([
                [word.replace("__rand_int__", f"{number:012}").replace(cases.VALUE, value)
                 for word in case.words] for number in numbers[first:first + 32]])

    server.call("FLUSHALL", "SYNC")
    server.call("CONFIG", "SET", *(case.config or cases.DEFAULTS))
    if case.filled:
        server.fill([word.replace(cases.VALUE, value) for word in case.filled], KEYS)
    times = max(options.counted // case.many, 1)
    call(range(min(times, KEYS)))
    costs = spent(server, out, lambda: call(number * 7919 % KEYS for number in range(times)))
    return told(Figures("instructions", group, case.name, case.beside), costs, times)


def count_callers(server, out, what, ways, options):
    """Admissions, those of scripts too: several calls for one caller."""
    times = max(options.counted // 10, 1)
    group = f"{what}: {times:,} callers, in pipelines of {admission.PIPELINE}"
    lanes = admission.Lanes(server, 1)
    for name, way in ways.items():
        chance = random.Random(1)
        server.call("FLUSHALL", "SYNC")
        caller = way(server)
        for user in range(min(times, KEYS)):
            lanes.play([caller(user, admission.identity(chance))])
        callers = admission.pipelined([caller(number * 7919 % min(times, KEYS),
                                              admission.identity(chance))
                                       for number in range(times)])
        costs = spent(server, out, lambda: lanes.play(callers))
        yield told(Figures("instructions", group, name, next(iter(ways))), costs, times)
    lanes.close()


def count_requests(server, out, options):
    """Whole requests, each by itself."""
    times, users = max(options.counted // 10, 40), KEYS // 4
    group = f"a request: {times:,} of {users:,} users, one after another"
    bench = request.Bench(server, request.Mix(times, users, 100), options.rounds)
    ways = request.ways_of(server)
    recordings = bench.recordings(ways)
    for name, way in ways.items():
        bench.prepare(way)
        trips = [trip for trips in recordings[name].trips for trip in trips]
        costs = spent(server, out, lambda: [server.call_together(trip) for trip in trips])
        yield told(Figures("instructions", group, name, request.HAND), costs, times)


def spent(server, out, work):
    """Instructions that the server executes meanwhile, by function."""
    control(server, "--zero")
    work()
    control(server, "--dump")
    dump = newest(out)
    costs = self_costs(dump)
    dump.unlink()
    return costs


def told(figures, costs, times):
    ours = sum(cost for name, cost in costs.items() if name.startswith("mlserve::"))
    figures.add(instructions=sum(costs.values()) / times, ours=ours / times)
    return figures


def control(server, what):
    subprocess.run(["callgrind_control", what, str(server.process.pid)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def newest(out):
    """The dump, once it is written."""
    while True:
        dumps = [path for path in out.parent.glob(f"{out.name}.*") if path.stat().st_size]
        if dumps and "totals:" in dumps[0].read_text():
            return dumps[0]
        time.sleep(0.05)


def self_costs(dump):
    """Instructions by function, those of the functions it calls not among them."""
    names, costs, function, called = {}, Counter(), None, False
    for line in dump.read_text().splitlines():
        if line.startswith(("fn=", "cfn=")):
            head, text = line.split("=", 1)
            number, _, name = text.partition(" ")
            name = names.setdefault(number, name)
            if head == "fn":
                function = name
        elif line.startswith("calls="):
            called = True
        elif re.match(r"[+\-*\d]", line):
            # The line after a call has the cost of what was called.
            if not called:
                costs[function] += int(line.split()[1])
            called = False
    return costs
