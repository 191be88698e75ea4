"""The command `mlserve`."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from mlserve import __version__
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


def serve(options: argparse.Namespace) -> int:
    """Run a server until Ctrl-C."""
    for number in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(number, stop_waiting)
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
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
