"""What takes several calls, written once for threads and for asyncio.

It is a generator of steps: a Call to be run, a list of calls to be run in one go, or a Work
of the user's. `run` takes them in this thread, `run_async` in the running event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from mlserve import aio
from mlserve._drive import drive, drive_async
from mlserve.breaker import breaker_of
from mlserve.calls import Call
from mlserve.client import Client
from mlserve.errors import Error, Unavailable

T = TypeVar("T")
AnyClient: TypeAlias = Client | aio.Client
logger = logging.getLogger("mlserve")


class Work:
    """A function of the user's to be run, and calls to be made every so often meanwhile."""

    __slots__ = ("do", "every", "renewals", "renewed")

    def __init__(
        self,
        do: Callable[[], Any],
        renewals: Sequence[Call[Any]] = (),
        every: float = 0,
        renewed: Callable[[list[Any]], None] | None = None,
    ) -> None:
        """What to do; the renewals, every how many seconds, and who is told the answers."""
        self.do = do
        self.renewals = renewals
        self.every = every
        self.renewed = renewed


Steps: TypeAlias = Generator[Call[Any] | list[Call[Any]] | Work, Any, T]


def ask(client: Client, asked: Call[Any] | Sequence[Call[Any]]) -> Any:
    """Run a call, or several in one go, unless the circuit is open."""
    with breaker_of(client).watching():
        if isinstance(asked, Call):
            return client.run(asked)
        pipeline = client.pipeline()
        for call in asked:
            pipeline.run(call)
        return pipeline.execute()


async def ask_async(client: aio.Client, asked: Call[Any] | Sequence[Call[Any]]) -> Any:
    """`ask` for asyncio."""
    with breaker_of(client).watching():
        if isinstance(asked, Call):
            return await client.run(asked)
        pipeline = client.pipeline()
        for call in asked:
            pipeline.run(call)
        return await pipeline.execute()


def run(client: Client, steps: Steps[T]) -> T:
    """Take the steps, each as it comes, to the result."""

    def take(step: Call[Any] | list[Call[Any]] | Work) -> Any:
        if isinstance(step, Work):
            with renewing(client, step):
                return step.do()
        return ask(client, step)

    return drive(steps, take)


async def run_async(client: aio.Client, steps: Steps[T]) -> T:
    """`run` for asyncio."""

    async def take(step: Call[Any] | list[Call[Any]] | Work) -> Any:
        if isinstance(step, Work):
            async with renewing_async(client, step):
                answer = step.do()
                return await answer if inspect.isawaitable(answer) else answer
        return await ask_async(client, step)

    return await drive_async(steps, take)


@contextlib.contextmanager
def renewing(client: Client, work: Work) -> Generator[None]:
    """Make the renewals of some work, in a thread, for as long as the block runs."""
    if not work.renewals:
        yield
        return
    over = threading.Event()

    def renew() -> None:
        while not over.wait(work.every):
            try:
                told(work, ask(client, work.renewals))
            except Error as error:
                logger.warning("mlserve: a renewal failed: %s", error)

    thread = threading.Thread(target=renew, name="mlserve-renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


@contextlib.asynccontextmanager
async def renewing_async(client: aio.Client, work: Work) -> Any:
    """Make the renewals of some work, in a task, for as long as the block runs."""
    if not work.renewals:
        yield
        return

    async def renew() -> None:
        while True:
            await asyncio.sleep(work.every)
            try:
                told(work, await ask_async(client, work.renewals))
            except Error as error:
                logger.warning("mlserve: a renewal failed: %s", error)

    task = asyncio.get_running_loop().create_task(renew())
    try:
        yield
    finally:
        task.cancel()


def told(work: Work, answers: list[Any]) -> None:
    """Tell what the renewals answered to who wants to know."""
    if work.renewed is not None:
        work.renewed(answers)


AWAY = {
    "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM",
    "READONLY", "TRYAGAIN", "UNBLOCKED",
}  # fmt: skip
"""Codes of a server that does not do what it should for now."""


def is_away(error: Exception) -> bool:
    """Whether an error says that the server is away, or takes nothing for now."""
    return isinstance(error, Unavailable) or getattr(error, "code", None) in AWAY


def missed(error: Error) -> None:
    """Take a server that is away for an empty one, for caches that a library asks; else raise."""
    if not is_away(error):
        raise error
    logger.warning("mlserve: the cache is away: %s", error)


def policy_of(on_error: str) -> str:
    """What to do while the server is away, checked."""
    if on_error not in ("allow", "deny", "raise"):
        raise ValueError(f'on_error must be "allow", "deny" or "raise": {on_error!r}')
    return on_error


def is_client(client: Any) -> None:
    """Raise unless it is a client of this package, of either kind."""
    if not isinstance(client, (Client, aio.Client)):
        raise TypeError(f"client must be an mlserve.Client or an mlserve.aio.Client: {client!r}")


def is_kind_of(client: AnyClient, function: Callable[..., Any], what: str) -> None:
    """Raise unless a function is plain where the client is, and async where it is."""
    asynchronous = isinstance(client, aio.Client)
    if inspect.iscoroutinefunction(function) != asynchronous:
        wanted = "an async function" if asynchronous else "a plain function"
        raise TypeError(f"{type(client).__module__}.Client {what} {wanted}")
