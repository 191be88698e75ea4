"""The client.

```python
client = mlserve.Client.from_url("redis://127.0.0.1:6379")
client.ratelimit("user:1", 100, 60).granted
```
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mlserve._commands import Commands, Maker
from mlserve._drive import drive
from mlserve._methods import Blocking, Collecting, Reply, collected, handed_out
from mlserve._pool import Batch, Pool
from mlserve._runs import Ask, Learn, Run
from mlserve._where import by_address
from mlserve.calls import Call, as_it_is
from mlserve.errors import TimedOut, Unavailable, response_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from mlserve._links import Address, Links
    from mlserve._where import Attempts, Question, Server

__all__ = ["Client", "Pipeline"]

T = TypeVar("T")


class Client(Maker, Blocking):
    """A client of mlserve, for threads: a method for each command of the module.

    Made by `from_url`, `sentinel` or `cluster`. It owns its connections, and may be used
    by several threads; after a fork the child opens its own.
    """

    asynchronous: ClassVar[bool] = False

    def __init__(self, links: Links, where: Server, *limits: Any) -> None:
        """See `from_url`, `sentinel` and `cluster`."""
        super().__init__(links, where, *limits)
        self._forget()
        clients.add(self)

    def _forget(self) -> None:
        """Begin without connections."""
        self._pools: dict[Address, Pool] = {}
        self._learning = threading.Lock()

    def run(self, call: Call[T]) -> T:
        """Run a call that a function of `mlserve.calls` has made."""
        where = self._where
        if where.many or where.stale or not where.agrees(call):
            return drive(self._begun().one(call), self._take)
        # What nearly all calls are has no steps.
        begun = monotonic()
        try:
            answer = self._pool(where.of(call)).ask(call, begun + self._timeout)
        except (Unavailable, self._links.response_errors) as error:
            return drive(self._begun(begun).again(call, error), self._take)
        return call.read(answer)

    def _begun(self, begun: float | None = None) -> Run:
        return Run(self._where, self._timeout, monotonic, begun)

    def _take(self, step: Learn | Ask) -> Any:
        """Take a step of a run."""
        if isinstance(step, Learn):
            return self._learn(step.deadline)
        return self._ask(step.attempts, step.deadline)

    def _ask(self, attempts: Sequence[Attempts], deadline: float) -> list[Any]:
        """Attempt calls at once, those of one server in one go: send all, then read all."""
        outcomes: list[Any] = [None] * len(attempts)
        begun: list[tuple[list[int], Batch]] = []
        try:
            for address, group in by_address(attempts).items():
                together = [attempts[place] for place in group]
                begun.append((group, self._pool(address).begin(together, deadline)))
            for group, batch in begun:
                for place, outcome in zip(group, batch.end(), strict=True):
                    outcomes[place] = outcome
        except BaseException:
            for _, batch in begun:
                batch.abandon()
            raise
        return outcomes

    def _pool(self, address: Address) -> Pool:
        pool = self._pools.get(address)
        if pool is None:
            pool = Pool(self._links, address, self._max_connections)
            pool = self._pools.setdefault(address, pool)
        return pool

    def _learn(self, deadline: float) -> None:
        """Ask where the servers are, one thread for all."""
        if not self._learning.acquire(timeout=max(deadline - monotonic(), 0)):
            raise TimedOut("it is not known in time where the server is")
        try:
            if self._where.stale:
                drive(self._where.learn(), functools.partial(self._put, deadline))
        finally:
            self._learning.release()

    def _put(self, deadline: float, question: Question) -> Any:
        """Put a question to a server; one that does not answer leaves time for the next."""
        until = monotonic() + max(deadline - monotonic(), 0) / 2
        pool = Pool(question.links, question.address, 1)
        try:
            return pool.ask(Call(question.words, as_it_is), until)
        except question.links.response_errors as error:
            raise response_error(error, question.words[0]) from error
        finally:
            pool.close()

    def pipeline(self) -> Pipeline:
        """Calls that are sent in one go: see Pipeline."""
        return Pipeline(self._execute)

    def _execute(self, calls: Sequence[Call[Any]]) -> list[Any]:
        return drive(self._begun().several(calls), self._take)

    def nodes(self) -> dict[Address, Client]:
        """A client of each server by itself: the primaries of a cluster, or the one there is."""
        drive(self._begun().learnt(), self._take)
        return {address: self._at(address) for address in self._where.all()}

    def close(self) -> None:
        """Close the connections; those in use are closed when they are given back."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pipeline(Commands, Collecting):
    """Calls that are sent in one go, each decided by itself.

        pipeline = client.pipeline()
        limit = pipeline.ratelimit("user:1", 100, 60)
        answer = pipeline.cacheget("pred:x", "v1")
        pipeline.execute()
        limit.value.granted, answer.value

    Calls that wait in the server would hold up the others: run them by themselves.
    """

    def __init__(self, execute: Callable[[Sequence[Call[Any]]], list[Any]]) -> None:
        """See `Client.pipeline`."""
        self._execute = execute
        self._replies: list[Reply[Any]] = []

    def run(self, call: Call[T]) -> Reply[T]:
        """Add a call that a function of `mlserve.calls` has made."""
        return collected(self._replies, call)

    def __len__(self) -> int:
        return len(self._replies)

    def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Send what was collected; the results in order.

        The first error is raised once all are answered; without `raise_on_error` errors
        stand in the list. The pipeline is empty then.
        """
        replies, self._replies = self._replies, []
        return handed_out(replies, self._execute([reply.call for reply in replies]), raise_on_error)


clients: weakref.WeakSet[Client] = weakref.WeakSet()


def forget_all() -> None:
    """Leave the connections that were open at a fork to the parent."""
    for client in clients:
        client._forget()


os.register_at_fork(after_in_child=forget_all)
