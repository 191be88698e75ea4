"""The client.

```python
client = mlserve.Client.from_url("redis://127.0.0.1:6379")
client.ratelimit("user:1", 100, 60).granted
```
"""

from __future__ import annotations

import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mlserve._commands import Commands, Maker
from mlserve._methods import Blocking, Collecting, Reply, checked, collected, handed_out
from mlserve._pool import Batch, Pool
from mlserve._where import Attempts, by_address, not_given_up
from mlserve.calls import Call, as_it_is
from mlserve.errors import Error, TimedOut, Unavailable, response_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from mlserve._links import Address, Links
    from mlserve._where import Questions, Server
    from mlserve.calls import Program

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
        if where.many:
            return self._run_in_cluster(call)
        deadline = monotonic() + self._timeout
        if where.stale:
            self._learn(deadline)
        try:
            answer = self._pool(where.of(call)).ask(call, deadline)
        except (Unavailable, self._links.response_errors) as error:
            attempts = Attempts(where, call)
            attempts.failed(error)
            answer = self._persist(attempts, deadline)
        return call.read(answer)

    def _persist(self, attempts: Attempts, deadline: float) -> Any:
        """Attempt until there is an answer, or none is to be had."""
        while True:
            try:
                if self._where.stale:
                    self._learn(deadline)
                pool = self._pool(attempts.next())
                return pool.ask(attempts.call, deadline, asking=attempts.asking)
            except (Unavailable, self._links.response_errors) as error:
                attempts.failed(error)

    def _run_in_cluster(self, call: Call[T]) -> T:
        deadline = monotonic() + self._timeout
        program = self._program(call)
        if program is not None:
            return self._conduct(program, deadline)
        if not call.everywhere:
            return call.read(self._persist(Attempts(self._where, call), deadline))
        if self._where.stale:
            self._learn(deadline)
        everywhere = [Attempts(self._where, call, address) for address in self._where.all()]
        outcomes = self._run_all(everywhere, deadline)
        return call.read(checked(outcomes)[-1])

    def _conduct(self, program: Program[T], deadline: float) -> T:
        """Run a program: batches of calls, to its result."""
        try:
            batch = next(program)
            while True:
                attempts = [Attempts(self._where, call) for call in batch]
                wait = max(call.wait for call in batch)
                outcomes = self._run_all(attempts, deadline + wait)
                try:
                    answers = checked(outcomes)
                except Error as error:
                    batch = program.throw(error)
                else:
                    batch = program.send(
                        [call.read(answer) for call, answer in zip(batch, answers, strict=True)]
                    )
        except StopIteration as end:
            result: T = end.value
            return result

    def _run_all(self, attempts: Sequence[Attempts], deadline: float) -> list[Any]:
        """Run calls at once, those of one server in one go; their answers or errors."""
        outcomes: list[Any] = [None] * len(attempts)
        left = list(range(len(attempts)))
        while left:
            try:
                if self._where.stale:
                    self._learn(deadline)
            except Unavailable as error:
                for place in left:
                    outcomes[place] = error
                break
            for place, outcome in self._once(attempts, left, deadline):
                outcomes[place] = outcome
            left = not_given_up(attempts, outcomes, left)
        return outcomes

    def _once(
        self, attempts: Sequence[Attempts], places: Iterable[int], deadline: float
    ) -> Iterable[tuple[int, Any]]:
        """Attempt the calls in some places once: send all, then read all."""
        begun: list[tuple[list[int], Batch]] = []
        try:
            for address, group in by_address(attempts, places).items():
                together = [attempts[place] for place in group]
                begun.append((group, self._pool(address).begin(together, deadline)))
            return [
                found for group, batch in begun for found in zip(group, batch.end(), strict=True)
            ]
        except BaseException:
            for _, batch in begun:
                batch.abandon()
            raise

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
                self._ask(self._where.learn(), deadline)
        finally:
            self._learning.release()

    def _ask(self, questions: Questions, deadline: float) -> None:
        try:
            question = next(questions)
            while True:
                # One that does not answer leaves time for the next.
                until = monotonic() + max(deadline - monotonic(), 0) / 2
                pool = Pool(question.links, question.address, 1)
                try:
                    answer = pool.ask(Call(question.words, as_it_is), until)
                except Unavailable as error:
                    question = questions.throw(error)
                except question.links.response_errors as error:
                    question = questions.throw(response_error(error, question.words[0]))
                else:
                    question = questions.send(answer)
                finally:
                    pool.close()
        except StopIteration:
            return

    def pipeline(self) -> Pipeline:
        """Calls that are sent in one go: see Pipeline."""
        return Pipeline(self._execute)

    def _execute(self, calls: Sequence[Call[Any]]) -> list[Any]:
        deadline = monotonic() + self._timeout
        outcomes: list[Any] = [None] * len(calls)
        together = []
        for place, call in enumerate(calls):
            if self._where.many and (call.everywhere or self._program(call) is not None):
                try:
                    outcomes[place] = self._run_in_cluster(call)
                except Error as error:
                    outcomes[place] = error
            else:
                together.append(place)
        attempts = [Attempts(self._where, calls[place]) for place in together]
        for place, outcome in zip(together, self._run_all(attempts, deadline), strict=True):
            failed = isinstance(outcome, Exception)
            outcomes[place] = outcome if failed else calls[place].read(outcome)
        return outcomes

    def nodes(self) -> dict[Address, Client]:
        """A client of each server by itself: the primaries of a cluster, or the one there is."""
        if self._where.stale:
            self._learn(monotonic() + self._timeout)
        return {address: self._at(address) for address in self._where.all()}

    def close(self) -> None:
        """Close the connections; those in use are closed when they are given back."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
