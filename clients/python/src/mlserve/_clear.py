"""Removal of all keys that begin alike, for adapters whose interface asks for it."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from mlserve import aio, calls
from mlserve._drive import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mlserve.client import Client

__all__ = ["aclear", "clear"]


def page(cursor: bytes, prefix: str) -> calls.Call[Any]:
    """A page of the keys that begin so."""
    pattern = re.sub(r"([\\*?\[\]])", r"\\\1", prefix) + "*"
    return calls.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, again=True)


def clearing(client: Client | aio.Client, prefix: str) -> Generator[Callable[[], Any], Any, int]:
    """What is to be called, for threads at once and for asyncio awaited."""
    removed = 0
    nodes = yield client.nodes
    for node in nodes.values():
        cursor = b"0"
        try:
            while True:
                cursor, keys = yield functools.partial(node.run, page(cursor, prefix))
                pipeline = node.pipeline()
                for key in keys:
                    pipeline.command("UNLINK", key, keys=[key])
                removed += sum((yield pipeline.execute))
                if cursor == b"0":
                    break
        finally:
            yield node.aclose if isinstance(node, aio.Client) else node.close
    return removed


def clear(client: Client, prefix: str) -> int:
    """Remove the keys that begin so, on every node; how many. O(all keys there are)."""
    return drive(clearing(client, prefix), lambda step: step())


async def aclear(client: aio.Client, prefix: str) -> int:
    """`clear` for asyncio."""
    return await drive_async(clearing(client, prefix), lambda step: step())
