"""The command `mlserve`."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from mlserve import __version__, calibration, featurelog, top
from mlserve.client import Client
from mlserve.server import Server, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

TO_TRY = [
    ["ML.RATELIMIT", "user:1", "100", "60"],
    ["ML.CACHESET", "pred:hello", "v1", "0.98", "EX", "60"],
    ["ML.FEATURESET", "item:1", "FIELDS", "2", "price", "84.5", "stock", "12"],
]
"""A call for each of the three uses, that answers on an empty server."""


def lines_to_try(port: int) -> list[str]:
    """What to type into another terminal: with the servers' own client, or Python."""
    for name in ["valkey-cli", "redis-cli"]:
        if shutil.which(name):
            return [shlex.join([name, "-p", str(port), *call]) for call in TO_TRY]
    code = "import redis, sys; print(redis.Redis(port={}).execute_command(*sys.argv[1:]))"
    python = [sys.executable, "-c", code.format(port)]
    return [shlex.join([*python, *call]) for call in TO_TRY]


def stop_waiting(number: int, frame: object) -> None:  # noqa: ARG001
    """End as by Ctrl-C."""
    raise KeyboardInterrupt


def end_by_signals() -> None:
    """Have what ends a process do as Ctrl-C does."""
    for number in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(number, stop_waiting)


def serve(options: argparse.Namespace) -> int:
    """Run a server until Ctrl-C."""
    end_by_signals()
    try:
        with Server(
            port=options.port, save=options.save, server=options.server, module=options.module
        ) as server:
            kept = f"kept in {options.save}" if options.save else "not kept (see --save)"
            print(f"The server runs at {server.url}; its data is {kept}.")
            print("Try, in another terminal:")
            for line in lines_to_try(server.port):
                print(f"  {line}")
            print("Ctrl-C ends it.", flush=True)
            status = server.wait()
            print(f"The server has ended, with status {status}.", flush=True)
            return int(status != 0)
    except KeyboardInterrupt:
        print("The server has ended.", flush=True)
        return 0
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def port_number(text: str) -> int:
    """A TCP port."""
    number = int(text)
    if not 0 < number < 65_536:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return number


def seconds(text: str) -> float:
    """Seconds, above 0."""
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return number


def address(text: str) -> str:
    """The URL of a server."""
    try:
        Client.from_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None
    return text


def count(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def share(text: str) -> float:
    """A share, between 0 and 1."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1")
    return number


URL = "redis://127.0.0.1:6379"


def show_top(options: argparse.Namespace) -> int:
    """Show what servers do."""
    end_by_signals()
    options.url = options.url or [URL]
    return top.run(options)


def export(options: argparse.Namespace) -> int:
    """Serve metrics."""
    options.url = options.url or [URL]
    try:
        from mlserve import exporter
    except ImportError:
        print("error: metrics want: pip install 'redis-mlserve[exporter]'", file=sys.stderr)
        return 1
    end_by_signals()
    return exporter.run(options)


def log_features(options: argparse.Namespace) -> int:
    """File what was served."""
    end_by_signals()
    return featurelog.run(options)


def calibrate(options: argparse.Namespace) -> int:
    """Find thresholds."""
    options.wrong = options.wrong or [0.001, 0.01]
    return calibration.run(options)


def add_nodes(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say which nodes are read."""
    command.add_argument(
        "--url",
        type=address,
        action="append",
        help=f"a server, or any node of a cluster; once for each (default: {URL})",
    )
    command.add_argument(
        "--timeout", type=seconds, default=1.0, metavar="S", help="of a call (default: 1)"
    )


def add_readers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that tell what servers do."""
    command = commands.add_parser(
        "top",
        help="show what servers do at this moment",
        description="Shows limits, queues, cache and features of servers, by node and "
        "namespace: in tables until Ctrl-C, or in lines where the output is no terminal.",
    )
    add_nodes(command)
    command.add_argument(
        "--interval", type=seconds, default=2.0, metavar="S", help="between readings (default: 2)"
    )
    command.add_argument(
        "--rows", type=count, default=20, metavar="N", help="of a table, at most (default: 20)"
    )
    command.add_argument("--once", action="store_true", help="one report, after one interval")
    command.add_argument("--json", action="store_true", help="a JSON object a report")
    command.set_defaults(run=show_top)

    command = commands.add_parser(
        "exporter",
        help="serve metrics of servers to Prometheus",
        description="Serves INFO ml and ML.STATS of servers as metrics at /metrics.",
    )
    add_nodes(command)
    command.add_argument("--address", default="127.0.0.1", help="to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=port_number, default=9121, metavar="N", help="(9121)")
    command.set_defaults(run=export)

    command = commands.add_parser(
        "log-features",
        help="file the features that were served as Parquet",
        description="Reads the stream of a mlserve.FeatureLog into Parquet files, each entry "
        "at least once. What it had read and not filed when it ended is filed first.",
    )
    command.add_argument("--url", type=address, default=URL, help=f"the server (default: {URL})")
    command.add_argument(
        "--timeout", type=seconds, default=5.0, metavar="S", help="of a call (default: 5)"
    )
    command.add_argument("--cluster", action="store_true", help="it is a node of a cluster")
    command.add_argument("--stream", default="log:features", help="(default: log:features)")
    command.add_argument("--to", required=True, metavar="DIR", help="where the files go")
    command.add_argument("--group", default="parquet", help="of consumers (default: parquet)")
    command.add_argument(
        "--consumer", default="1", help="one of its own for each that runs at once (default: 1)"
    )
    command.add_argument(
        "--entries", type=count, default=10_000, metavar="N", help="of a file (default: 10000)"
    )
    command.add_argument(
        "--every", type=seconds, default=60.0, metavar="S", help="file at least so often (60)"
    )
    command.add_argument("--once", action="store_true", help="end when the stream is read")
    command.set_defaults(run=log_features)


def add_calibrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command that finds thresholds of the semantic cache."""
    command = commands.add_parser(
        "calibrate",
        help="find thresholds of the semantic cache from labelled pairs of questions",
        description="Finds HIT and MAYBE for wanted error rates. The file has a header, and the "
        "columns a (a question that was answered), b (one that is asked) and same (1, true or "
        "yes where the answer fits both, else 0, false or no); with a column similarity it "
        "needs no texts.",
    )
    command.add_argument("pairs", metavar="PAIRS.CSV", help="the file, or - for the input")
    command.add_argument(
        "--embed", metavar="MODULE:FUNCTION", help="what embeds a text, as for SemanticCache"
    )
    command.add_argument(
        "--judge", metavar="MODULE:FUNCTION", help="what judges a MAYBE, to be measured too"
    )
    command.add_argument(
        "--wrong",
        type=share,
        action="append",
        metavar="SHARE",
        help="of the pairs that differ, that may be answered (default: 0.001 and 0.01)",
    )
    command.add_argument(
        "--recall",
        type=share,
        default=0.95,
        metavar="SHARE",
        help="of the pairs with the same answer, that MAYBE is to find (default: 0.95)",
    )
    command.add_argument(
        "--sure", action="store_true", help="choose HIT by the upper end of what may be wrong"
    )
    command.add_argument(
        "--confidence", type=share, default=0.95, metavar="SHARE", help="(default: 0.95)"
    )
    command.add_argument("--json", action="store_true", help="a JSON object")
    command.set_defaults(run=calibrate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="mlserve", description="mlserve: a module for Redis and Valkey."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    command = commands.add_parser(
        "serve",
        help="run a private server with the module until Ctrl-C",
        description="Runs a private server with the module on 127.0.0.1 until Ctrl-C.",
    )
    command.add_argument(
        "--port", type=port_number, metavar="N", help="its port; else one that is free"
    )
    command.add_argument(
        "--save",
        metavar="DIR",
        help="load what is in this directory, and save to it each minute and at the end",
    )
    command.add_argument(
        "--server", metavar="PROGRAM", help="the server; else $MLSERVE_SERVER, or one that is found"
    )
    command.add_argument(
        "--module", metavar="FILE", help="the module; else $MLSERVE_MODULE, or one that is found"
    )
    command.set_defaults(run=serve)
    add_readers(commands)
    add_calibrate(commands)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
