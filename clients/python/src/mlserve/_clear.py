"""Removal of all keys that begin alike, for adapters whose interface asks for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlserve import calls

if TYPE_CHECKING:
    from mlserve import aio
    from mlserve.client import Client

__all__ = ["aclear", "clear"]


def page(cursor: bytes, prefix: str) -> calls.Call[list[bytes | list[bytes]]]:
    """A page of the keys that begin so."""
    pattern = re.sub(r"([\\*?\[\]])", r"\\\1", prefix) + "*"
    return calls.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, again=True)


def clear(client: Client, prefix: str) -> int:
    """Remove the keys that begin so, on every node; how many. O(all keys there are)."""
    removed = 0
    for node in client.nodes().values():
        cursor = b"0"
        with node:
            while True:
                cursor, keys = node.run(page(cursor, prefix))  # type: ignore[assignment]
                pipeline = node.pipeline()
                for key in keys:
                    pipeline.command("UNLINK", key, keys=[key])  # type: ignore[list-item]
                removed += sum(pipeline.execute())
                if cursor == b"0":
                    break
    return removed


async def aclear(client: aio.Client, prefix: str) -> int:
    """`clear` for asyncio."""
    removed = 0
    for node in (await client.nodes()).values():
        cursor = b"0"
        async with node:
            while True:
                cursor, keys = await node.run(page(cursor, prefix))  # type: ignore[assignment]
                pipeline = node.pipeline()
                for key in keys:
                    pipeline.command("UNLINK", key, keys=[key])  # type: ignore[list-item]
                removed += sum(await pipeline.execute())
                if cursor == b"0":
                    break
    return removed
