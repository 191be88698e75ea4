"""The client for asyncio: that of `mlserve.Client`, with await.

```python
client = mlserve.aio.Client.from_url("redis://127.0.0.1:6379")
(await client.ratelimit("user:1", 100, 60)).granted
```
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mlserve._commands import Commands, Maker
from mlserve._drive import drive_async
from mlserve._links import exhausted, failure, packed
from mlserve._methods import Awaiting, Collecting, Reply, collected, handed_out
from mlserve._runs import Ask, Learn, Run
from mlserve._where import by_address
from mlserve.calls import Call, as_it_is
from mlserve.errors import Error, TimedOut, Unavailable, code_of, response_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from typing_extensions import Self

    from mlserve._links import Address, Links
    from mlserve._where import Attempts, Question, Server

__all__ = ["Client", "Pipeline"]

T = TypeVar("T")


class Client(Maker, Awaiting):
    """A client of mlserve, for asyncio: a method for each command of the module.

    Made by `from_url`, `sentinel` or `cluster`. It owns its connections. Each event loop
    that it is used in has connections of its own; a loop that was closed is forgotten.
    """

    asynchronous: ClassVar[bool] = True

    def __init__(self, links: Links, where: Server, *limits: Any) -> None:
        """See `from_url`, `sentinel` and `cluster`."""
        super().__init__(links, where, *limits)
        self._loops: dict[asyncio.AbstractEventLoop, Local] = {}

    def _here(self) -> Local:
        """What the client has in the running loop."""
        loop = asyncio.get_running_loop()
        local = self._loops.get(loop)
        if local is None:
            for other in list(self._loops):
                if other.is_closed():
                    del self._loops[other]
            local = self._loops[loop] = Local(loop)
        return local

    async def run(self, call: Call[T]) -> T:
        """Run a call that a function of `mlserve.calls` has made."""
        where = self._where
        if where.many or where.stale or not where.agrees(call):
            return await drive_async(self._begun().one(call), self._take)
        # What nearly all calls are has no steps.
        local = self._here()
        begun = local.time()
        try:
            answer = await self._pool(local, where.of(call)).ask(call, begun + self._timeout)
        except (Unavailable, self._links.response_errors) as error:
            return await drive_async(self._begun(begun).again(call, error), self._take)
        return call.read(answer)

    def _begun(self, begun: float | None = None) -> Run:
        return Run(self._where, self._timeout, self._here().time, begun)

    async def _take(self, step: Learn | Ask) -> Any:
        """Take a step of a run."""
        if isinstance(step, Learn):
            return await self._learn(step.deadline)
        return await self._ask(step.attempts, step.deadline)

    async def _ask(self, attempts: Sequence[Attempts], deadline: float) -> list[Any]:
        """Attempt calls at once, those of one server in one go."""
        local = self._here()
        outcomes: list[Any] = [None] * len(attempts)
        groups = by_address(attempts)
        answers = await asyncio.gather(
            *(
                self._pool(local, address).ask_all([attempts[at] for at in group], deadline)
                for address, group in groups.items()
            )
        )
        for group, answered in zip(groups.values(), answers, strict=True):
            for place, outcome in zip(group, answered, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _pool(self, local: Local, address: Address) -> Pool:
        pool = local.pools.get(address)
        if pool is None:
            pool = Pool(self._links, address, self._max_connections, local.loop)
            local.pools[address] = pool
        return pool

    async def _learn(self, deadline: float) -> None:
        """Ask where the servers are, one task for all."""
        try:
            async with TimeLimit(self._here().loop, deadline), self._here().learning:
                if self._where.stale:
                    await drive_async(self._where.learn(), functools.partial(self._put, deadline))
        except asyncio.TimeoutError as error:
            raise TimedOut("it is not known in time where the server is") from error

    async def _put(self, deadline: float, question: Question) -> Any:
        """Put a question to a server; one that does not answer leaves time for the next."""
        local = self._here()
        until = local.time() + max(deadline - local.time(), 0) / 2
        pool = Pool(question.links, question.address, 1, local.loop)
        try:
            return await pool.ask(Call(question.words, as_it_is), until)
        except question.links.response_errors as error:
            raise response_error(error, question.words[0]) from error
        finally:
            await pool.close()

    def pipeline(self) -> Pipeline:
        """Calls that are sent in one go: see Pipeline."""
        return Pipeline(self._execute)

    async def _execute(self, calls: Sequence[Call[Any]]) -> list[Any]:
        return await drive_async(self._begun().several(calls), self._take)

    async def nodes(self) -> dict[Address, Client]:
        """A client of each server by itself: the primaries of a cluster, or the one there is."""
        await drive_async(self._begun().learnt(), self._take)
        return {address: self._at(address) for address in self._where.all()}

    async def aclose(self) -> None:
        """Close the connections of this loop; those in use when they are given back."""
        local = self._loops.pop(asyncio.get_running_loop(), None)
        if local is not None:
            for pool in local.pools.values():
                await pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Pipeline(Commands, Collecting):
    """Calls that are sent in one go, each decided by itself: see `mlserve.Pipeline`."""

    def __init__(self, execute: Callable[[Sequence[Call[Any]]], Awaitable[list[Any]]]) -> None:
        """See `Client.pipeline`."""
        self._execute = execute
        self._replies: list[Reply[Any]] = []

    def run(self, call: Call[T]) -> Reply[T]:
        """Add a call that a function of `mlserve.calls` has made."""
        return collected(self._replies, call)

    def __len__(self) -> int:
        return len(self._replies)

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Send what was collected; the results in order.

        The first error is raised once all are answered; without `raise_on_error` errors
        stand in the list. The pipeline is empty then.
        """
        replies, self._replies = self._replies, []
        outcomes = await self._execute([reply.call for reply in replies])
        return handed_out(replies, outcomes, raise_on_error)


GRACE = 0.1
"""Seconds that a loop that was held up past a time limit has to read what came, at most."""


class TimeLimit:
    """A block that ends at a moment by asyncio.TimeoutError, as `asyncio.timeout_at` does.

    But what came in time is still read by a loop that was held up past the moment: it has
    as long again as it is late, GRACE at most.
    """

    __slots__ = ("_cancels", "_late", "_loop", "_over", "_task", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """By the clock of the running loop."""
        self._loop = loop
        self._when = when
        self._late = False
        self._over = False

    async def __aenter__(self) -> None:
        self._task: Any = asyncio.current_task()
        if sys.version_info >= (3, 11):
            self._cancels = self._task.cancelling()
        self._timer = self._loop.call_at(self._when, self._look)

    def _look(self) -> None:
        if self._late:
            self._over = True
            self._task.cancel()
            return
        # What is there by now is handed to the task before this comes again.
        self._late = True
        now = self._loop.time()
        self._timer = self._loop.call_at(now + min(now - self._when, GRACE), self._look)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        self._timer.cancel()
        if not self._over:
            return
        cancelled = False
        if sys.version_info >= (3, 11):
            # By others, at the same time.
            cancelled = self._task.uncancel() > self._cancels
        if kind is asyncio.CancelledError and not cancelled:
            raise asyncio.TimeoutError from error


class Local:
    """What a client has in one event loop."""

    __slots__ = ("learning", "loop", "pools", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Without connections so far."""
        self.loop = loop
        self.time = loop.time
        self.pools: dict[Address, Pool] = {}
        self.learning = asyncio.Lock()


class Pool:
    """The connections to one server in one event loop: as those of `mlserve._pool`."""

    def __init__(
        self, links: Links, address: Address, limit: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        """To this address, so many at most."""
        self._links = links
        self._address = address
        self._limit = limit
        self._waiting_limit = max(1, limit * 3 // 4)
        self._loop = loop
        self._idle: deque[Any] = deque()
        self._open = 0
        self._waiting = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._queue_to_wait: deque[asyncio.Future[None]] = deque()
        self._closed = False

    async def ask(self, call: Call[Any], deadline: float, *, asking: bool = False) -> Any:
        """The answer to a call; raises Unavailable, or the library's ResponseError."""
        connection = None
        sent = False
        try:
            async with TimeLimit(self._loop, deadline + call.wait):
                connection = await self._take(call, deadline)
                sent = True
                chunks = packed(connection, call, asking)
                await connection.send_packed_command(chunks, check_health=False)
                if asking:
                    await connection.read_response()
                answer = await connection.read_response()
        except self._links.response_errors as error:
            await self._refused(connection, call, error)
            raise
        except self._links.lost_errors as error:
            await self._lose_if_any(connection, call)
            raise failure(self._links, self._address, error, sent=sent) from error
        except BaseException:
            await self._lose_if_any(connection, call)
            raise
        await self._give(connection, call)
        return answer

    async def ask_all(self, attempts: Sequence[Attempts], deadline: float) -> list[Any]:
        """The answers or errors of several calls on one connection, in order."""
        call = attempts[0].call
        outcomes: list[Any] = []
        connection = None
        sent = False
        try:
            most = max(attempt.call.wait for attempt in attempts)
            async with TimeLimit(self._loop, deadline + most):
                connection = await self._take(call, deadline)
                sent = True
                chunks = [
                    chunk
                    for attempt in attempts
                    for chunk in packed(connection, attempt.call, attempt.asking)
                ]
                await connection.send_packed_command(chunks, check_health=False)
                for attempt in attempts:
                    outcomes.append(await self._answer(connection, attempt))
        except self._links.lost_errors as error:
            await self._lose_if_any(connection, call)
            lost = failure(self._links, self._address, error, sent=sent)
            lost.__cause__ = error
            return outcomes + [lost] * (len(attempts) - len(outcomes))
        except Error as error:
            return [error] * len(attempts)
        except BaseException:
            await self._lose_if_any(connection, call)
            raise
        await self._give(connection, call)
        return outcomes

    async def _answer(self, connection: Any, attempt: Attempts) -> Any:
        try:
            if attempt.asking:
                await connection.read_response()
            return await connection.read_response()
        except self._links.response_errors as error:
            return error

    async def _take(self, call: Call[Any], deadline: float) -> Any:
        """A connection that is free, or a new one."""
        connection = None if call.wait else await self._take_idle()
        if connection is None:
            connection = await self._wait_for_one(call, deadline)
            self._waiting += call.wait > 0
            if connection is None:
                self._open += 1
                connection = await self._connected(call)
        return connection

    async def _take_idle(self) -> Any:
        """A connection that is free, or None."""
        while self._idle:
            connection = self._idle.pop()
            if not (connection._writer.is_closing() or connection._reader.at_eof()):
                return connection
            # The server has closed it.
            await self._end(connection)
        return None

    async def _wait_for_one(self, call: Call[Any], deadline: float) -> Any:
        """A connection that is free, or None where one may be opened."""
        queue = self._queue_to_wait if call.wait else self._queue
        while True:
            if not call.wait or self._waiting < self._waiting_limit:
                connection = await self._take_idle()
                if connection is not None or self._open < self._limit:
                    return connection
            left = deadline - self._loop.time()
            if left <= 0:
                raise exhausted(self._limit, self._waiting)
            turn = self._loop.create_future()
            queue.append(turn)
            try:
                await asyncio.wait([turn], timeout=left)
            except asyncio.CancelledError:
                if turn.done():
                    self._next_turn()
                raise
            finally:
                if not turn.done():
                    queue.remove(turn)

    def _next_turn(self) -> None:
        """Have one that waits for a connection look again."""
        if self._queue:
            self._queue.popleft().set_result(None)
        elif self._queue_to_wait and self._waiting < self._waiting_limit:
            self._queue_to_wait.popleft().set_result(None)

    async def _connected(self, call: Call[Any]) -> Any:
        """A new connection."""
        connection = None
        try:
            connection = self._links.new(self._address)
            await connection.connect()
        except self._links.response_errors as error:
            await self._lose(connection, call)
            raise response_error(error, "HELLO") from error
        except self._links.lost_errors as error:
            await self._lose(connection, call)
            raise failure(self._links, self._address, error, sent=False) from error
        except BaseException:
            await self._lose(connection, call)
            raise
        return connection

    async def _give(self, connection: Any, call: Call[Any]) -> None:
        """Have a connection free again."""
        self._waiting -= call.wait > 0
        self._idle.append(connection)
        self._next_turn()
        if self._closed:
            await self.close()

    async def _refused(self, connection: Any, call: Call[Any], error: Exception) -> None:
        """Have a connection free again that brought an error, if it is of use."""
        if code_of(error) == "READONLY":
            # No primary any more: its name may lead to another by now.
            await self._lose(connection, call)
            await self._end_idle()
        else:
            await self._give(connection, call)

    async def _lose_if_any(self, connection: Any, call: Call[Any]) -> None:
        """Lose the connection of a call that may not have come by one."""
        if connection is not None:
            await self._lose(connection, call)

    async def _lose(self, connection: Any, call: Call[Any]) -> None:
        """Close a connection that may have an answer under way."""
        self._waiting -= call.wait > 0
        await self._end(connection)

    async def _end(self, connection: Any) -> None:
        self._open -= 1
        self._next_turn()
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _end_idle(self) -> None:
        while self._idle:
            await self._end(self._idle.pop())

    async def close(self) -> None:
        """Close what is free, and what is in use when it is given back."""
        self._closed = True
        await self._end_idle()
