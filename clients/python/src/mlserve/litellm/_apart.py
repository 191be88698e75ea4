"""A client of asyncio in a thread of its own.

A worker of the proxy that has many requests at once comes back to its event loop late, by
seconds. Time-outs in that loop would tell of the worker, not of the server, and open the
circuit for a server that answers in a millisecond.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from mlserve import aio
from mlserve._steps import ask_async, run_async
from mlserve.breaker import breaker_of

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine, Sequence

    from mlserve._steps import Steps
    from mlserve.calls import Call
    from mlserve.litellm._settings import Settings

    T = TypeVar("T")


class Apart:
    """Runs calls in its own thread, for any event loop; it begins with the first call."""

    def __init__(self, settings: Settings) -> None:
        """Of the server that the settings name."""
        self.client = settings.client(aio.Client)
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, call: Call[T]) -> T:
        """Run a call, unless the circuit is open."""
        return await self._run(ask_async(self.client, call))

    async def ask_all(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Run calls in one go, unless the circuit is open; errors stand among the results."""

        async def run() -> list[Any]:
            pipeline = self.client.pipeline()
            for call in calls:
                pipeline.run(call)
            with breaker_of(self.client).watching():
                return await pipeline.execute(raise_on_error=False)

        return await self._run(run())

    async def take(self, steps: Steps[T]) -> T:
        """Take steps, to the result."""
        return await self._run(run_async(self.client, steps))

    def wait_for(self, steps: Steps[T]) -> T:
        """`take`, for threads."""
        return Context().run(self._start, run_async(self.client, steps)).result()

    async def close(self) -> None:
        """Close the connections."""
        await self._run(self.client.aclose())

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        # In an empty context: a loop and a connection keep the one that they were made in, and
        # with it all that a request is known by.
        return await asyncio.wrap_future(Context().run(self._start, work))

    def _start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._begun())

    def _begun(self) -> asyncio.AbstractEventLoop:
        """The event loop of the thread."""
        with self._beginning:
            # In the child of a fork the thread is not there, and the loop is the parent's.
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="mlserve-litellm", daemon=True
                )
                self._thread.start()
            return self._loop
