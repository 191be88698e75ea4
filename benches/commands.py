"""The families `ratelimit`, `cache` and `scaling`: single commands beside their
like, by all that matters of them."""

from dataclasses import replace

from . import cases
from .figures import Figures
from .load import Load, latency, throughput

CONNECTIONS = (1, 10, 100, 1000)
PIPELINES = (1, 16, 64)
TEN_MILLION = 10_000_000


def family(name, server, options):
    """One of the families, in alternating rounds; a round runs each case once."""
    group = list(cases.RATELIMIT if name == "ratelimit" else cases.CACHE)
    if name == "ratelimit":
        group += [case for command, case in cases.OF_MODULES.items()
                  if server.call("COMMAND", "INFO", command) != [None]]
    load = Load(options.requests, options.keys, value_bytes=options.value_bytes)
    title = (f"{load.keys:,} random keys, {load.connections} connections, pipelines of "
             f"{load.pipeline}; p50 and p99 at {options.rate:,} keys a second")
    all_figures = [Figures(name, title, case.name, case.beside) for case in group]
    for case in group:  # A warm-up, not counted.
        throughput(server, case, replace(load, requests=load.requests // 10 + 1))
    for _ in range(options.rounds):
        for case, figures in zip(group, all_figures):
            figures.add(**throughput(server, case, load))
        for case, figures in zip(group, all_figures):
            figures.add(**latency(server, case, load, options.rate, options.seconds))
    return all_figures


def scaling(server, options):
    """Throughput by the number of keys, of connections, and the pipeline."""
    base = Load(options.requests, options.keys, value_bytes=options.value_bytes)
    keys = [*options.scaled_keys, *([TEN_MILLION] if options.ten_million else [])]
    loads = {f"{number:,} keys": replace(base, keys=number) for number in keys}
    loads |= {f"pipelines of {length}": replace(base, pipeline=length) for length in PIPELINES}
    loads |= {f"{number:,} connections without pipelines":
              replace(base, connections=number, pipeline=1) for number in CONNECTIONS}
    all_figures = []
    for group, load in loads.items():
        # Without pipelines a call takes ten times as long.
        if load.pipeline == 1:
            load = replace(load, requests=load.requests // 4 + 1)
        several = [Figures("scaling", group, case.name, case.beside) for case in cases.SCALED]
        for _ in range(options.rounds):
            for case, figures in zip(cases.SCALED, several):
                figures.add(**throughput(server, case, load))
        all_figures += several
    return all_figures
