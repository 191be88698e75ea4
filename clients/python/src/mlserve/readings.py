"""Readings of servers: what INFO ml and ML.STATS say of each node, and how fast it grows.

A node that does not answer makes a reading that says why, never an error.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from mlserve import calls
from mlserve.calls import Call
from mlserve.client import Client
from mlserve.errors import Error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlserve._links import Address

__all__ = ["Nodes", "Reading", "increase", "shown"]

DISCOVERY_SECONDS = 30.0
"""How often a cluster is asked anew which nodes it has."""

Stats = dict[str, dict[bytes, dict[str, Any]]]


class Reading(NamedTuple):
    """What one node said at one moment."""

    node: str
    """host:port, or the path of a socket."""
    at: float
    """By the monotonic clock, in seconds."""
    run: str
    """The run_id of the server's process: another after a restart."""
    info: dict[str, int]
    """The fields of INFO ml."""
    stats: Stats
    """ML.STATS, empty where it is not allowed."""
    problem: str | None
    """Why the node told nothing."""
    denied: str | None
    """Why it told no ML.STATS."""


class Nodes:
    """The nodes that some URLs name: servers by themselves, and all primaries of a cluster.

    A cluster is found by any of its nodes, and asked anew now and then.
    """

    def __init__(self, urls: Sequence[str], *, timeout: float = 1.0, **options: Any) -> None:
        """By these URLs; `timeout` is what a call to a node may take, in seconds."""
        self._seeds = [Client.from_url(url, timeout=timeout, **options) for url in urls]
        self._clusters = [Client.cluster(url, timeout=timeout, **options) for url in urls]
        self._found: list[dict[Address, Client]] = [{} for _ in urls]
        self._asked = [-DISCOVERY_SECONDS for _ in urls]

    def read(self) -> list[Reading]:
        """Read all nodes at once, in the order of the URLs."""
        with ThreadPoolExecutor(max_workers=32) as pool:
            list(pool.map(self._discover, range(len(self._seeds))))
            together: dict[Address, Client] = {}
            for found in self._found:
                # A node that several URLs lead to is read once.
                together.update({at: found[at] for at in found if at not in together})
            return list(pool.map(reading, map(name_of, together), together.values()))

    def _discover(self, place: int) -> None:
        """Find out which nodes a URL names, unless it is known."""
        now = time.monotonic()
        known = self._found[place]
        if known and now - self._asked[place] < DISCOVERY_SECONDS:
            return
        cluster, seed = self._clusters[place], self._seeds[place]
        try:
            if not seed.run(Call(["INFO", "cluster"], is_cluster, again=True)):
                found = seed.nodes()
            else:
                cluster.run(Call(["CLUSTER", "SLOTS"], calls.as_it_is, again=True))
                found = cluster.nodes()
        except Error:
            # What was found before is shown as unreachable, node by node; it is asked
            # anew the next time.
            self._found[place] = known or seed.nodes()
            return
        self._asked[place] = now
        self._found[place] = {address: known.get(address, found[address]) for address in found}

    def close(self) -> None:
        """Close the connections."""
        for client in [*self._seeds, *self._clusters]:
            client.close()
        for found in self._found:
            for client in found.values():
                client.close()


def name_of(address: Address) -> str:
    """A node's name."""
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def reading(node: str, client: Client) -> Reading:
    """Read a node."""
    nothing: Stats = {}
    at = time.monotonic()
    try:
        info = client.run(Call(["INFO", "server", "ml"], fields_of, again=True))
    except Error as error:
        return Reading(node, at, "", {}, nothing, plain(error), None)
    run = info.get("run_id", "")
    fields = {
        name.removeprefix("ml_"): int(value)
        for name, value in info.items()
        if name.startswith("ml_") and value.isdigit()
    }
    if not fields:
        return Reading(node, at, run, {}, nothing, "the module is not loaded there", None)
    try:
        stats = client.run(calls.stats())
    except Error as error:
        return Reading(node, at, run, fields, nothing, None, plain(error))
    return Reading(node, at, run, fields, stats, None, None)


def plain(error: Error) -> str:
    """An error in one line."""
    return " ".join(str(error).split())


def text_of(answer: Any) -> str:
    """The text of INFO, by either protocol."""
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)


def is_cluster(answer: Any) -> bool:
    """Whether INFO cluster is of a cluster's node."""
    return "cluster_enabled:1" in text_of(answer)


def fields_of(answer: Any) -> dict[str, str]:
    """The fields of INFO."""
    pairs = (line.partition(":") for line in text_of(answer).splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def increase(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> int:
    """By how much a counter grew between two readings.

    A counter that is smaller than before began at 0 since, after a RESET or a restart:
    it grew by what it is.
    """
    was, now = int(before.get(name, 0)), int(after.get(name, 0))
    return now - was if now >= was else now


def shown(name: bytes) -> str:
    r"""A name for people and labels: two different ones never look the same.

    What is not printable, such as the control characters of a terminal, is written as an
    escape, and the backslash twice.
    """
    text = name.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
