"""Removal of all keys that begin alike, or of what they hold, for adapters that must."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from mlserve import aio, calls
from mlserve._drive import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mlserve.client import Client
    from mlserve.results import Key

__all__ = ["aclear", "clear"]


def page(cursor: bytes, prefix: Key) -> calls.Call[Any]:
    """A page of the keys that begin so."""
    begin = prefix.encode() if isinstance(prefix, str) else prefix
    pattern = re.sub(rb"([\\*?\[\]])", rb"\\\1", begin) + b"*"
    return calls.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, again=True)


def unlink(key: bytes) -> calls.Call[int]:
    """Remove a key."""
    return calls.command("UNLINK", key, keys=[key])


def clearing(
    client: Client | aio.Client, prefix: Key, remove: Callable[[bytes], calls.Call[int]]
) -> Generator[Callable[[], Any], Any, int]:
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
                    pipeline.run(remove(key))
                removed += sum((yield pipeline.execute))
                if cursor == b"0":
                    break
        finally:
            yield node.aclose if isinstance(node, aio.Client) else node.close
    return removed


def clear(client: Client, prefix: Key, remove: Callable[[bytes], calls.Call[int]] = unlink) -> int:
    """Remove the keys that begin so, on every node; how many. O(all keys there are).

    `remove` is the call for a key, where it is another than to remove the key; its
    answers are counted then.
    """
    return drive(clearing(client, prefix, remove), lambda step: step())


async def aclear(client: aio.Client, prefix: Key) -> int:
    """`clear` for asyncio."""
    return await drive_async(clearing(client, prefix, unlink), lambda step: step())
