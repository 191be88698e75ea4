"""How calls are run, to their results: the steps of it, which the clients take, each its way."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from mlserve._methods import checked
from mlserve._where import Attempts, by_slot, not_given_up
from mlserve.calls.features import fieldlists
from mlserve.errors import Error, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlserve._where import Server
    from mlserve.calls import Call, Program

T = TypeVar("T")


class Learn(NamedTuple):
    """A step: find out where the servers are, until a moment."""

    deadline: float


class Ask(NamedTuple):
    """A step: attempt calls at once, until a moment and what each waits; answers or errors."""

    attempts: Sequence[Attempts]
    deadline: float


Steps: TypeAlias = Generator[Learn | Ask, Any, T]


class Run:
    """A run of calls, with a time that all of its steps share.

    What a call waits in the server comes on top, and is no time of what follows.
    """

    __slots__ = ("_begun", "_deadline", "_now", "_timeout", "_where")

    def __init__(
        self, where: Server, timeout: float, now: Callable[[], float], begun: float | None = None
    ) -> None:
        """Against these servers, begun now or before."""
        self._where = where
        self._timeout = timeout
        self._now = now
        self._begun = now() if begun is None else begun
        self._deadline = self._begun + timeout

    def one(self, call: Call[T]) -> Steps[T]:
        """A call."""
        yield from self._agreed(call)
        program = self._program(call)
        if program is not None:
            return (yield from self._conducted(program))
        addresses = [None]
        if self._where.many and call.everywhere:
            yield from self.learnt()
            addresses = self._where.all()  # type: ignore[assignment]
        attempts = [Attempts(self._where, call, address) for address in addresses]
        return call.read(checked((yield from self._answered(attempts)))[-1])

    def again(self, call: Call[T], error: Exception) -> Steps[T]:
        """A call whose first attempt, at the beginning, failed by this error."""
        self._waited(call.wait, self._begun)
        attempts = Attempts(self._where, call)
        attempts.failed(error)
        return call.read(checked((yield from self._answered([attempts])))[0])

    def several(self, calls: Sequence[Call[Any]]) -> Steps[list[Any]]:
        """Calls at once, each by itself; their results or errors."""
        outcomes: list[Any] = [None] * len(calls)
        together = []
        for place, call in enumerate(calls):
            try:
                yield from self._agreed(call)
            except (Error, ValueError) as error:
                outcomes[place] = error
                continue
            if self._where.many and (call.everywhere or self._program(call) is not None):
                try:
                    outcomes[place] = yield from self.one(call)
                except Error as error:
                    outcomes[place] = error
            else:
                together.append(place)
        attempts = [Attempts(self._where, calls[place]) for place in together]
        answers = yield from self._answered(attempts)
        for place, answer in zip(together, answers, strict=True):
            failed = isinstance(answer, Exception)
            outcomes[place] = answer if failed else calls[place].read(answer)
        return outcomes

    def _agreed(self, call: Call[Any]) -> Steps[None]:
        """Find out whether the list of fields of a call is the server's, if it is not known."""
        if call.everywhere:
            self._where.forget_lists()
        elif call.fields is not None and not self._where.agrees(call):
            # Of the node that the call goes to, as any primary was told.
            lists = fieldlists(call.keys[:1])
            told = lists.read(
                checked((yield from self._answered([Attempts(self._where, lists)])))[0]
            )
            self._where.compared(call.fields, told)

    def learnt(self) -> Steps[None]:
        """Find out where the servers are, if it is not known."""
        if self._where.stale:
            yield Learn(self._deadline)

    def _program(self, call: Call[T]) -> Program[T] | None:
        """What to run in place of the call, where it touches several slots of a cluster."""
        if self._where.many and call.split is not None and len(call.keys) > 1:
            groups = by_slot(call.keys)
            if len(groups) > 1:
                return call.split(groups)
        return None

    def _conducted(self, program: Program[T]) -> Steps[T]:
        """A program: batches of calls, to its result."""
        failed = False
        try:
            batch = next(program)
            while True:
                attempts = [Attempts(self._where, call) for call in batch]
                try:
                    answers = checked((yield from self._answered(attempts)))
                except Error as error:
                    if not failed:
                        # What gives back has as much time again, and no more.
                        failed = True
                        self._deadline = self._now() + self._timeout
                    batch = program.throw(error)
                else:
                    batch = program.send(
                        [call.read(answer) for call, answer in zip(batch, answers, strict=True)]
                    )
        except StopIteration as end:
            result: T = end.value
            return result

    def _answered(self, attempts: Sequence[Attempts]) -> Steps[list[Any]]:
        """Calls at once, until there are answers or none are to be had; those, or the errors."""
        outcomes: list[Any] = [None] * len(attempts)
        left = list(range(len(attempts)))
        while left:
            trying = [attempts[place] for place in left]
            begun = self._now()
            try:
                yield from self.learnt()
            except Unavailable as error:
                found: list[Any] = [error] * len(left)
            else:
                found = yield Ask(trying, self._deadline)
                self._waited(max(attempt.call.wait for attempt in trying), begun)
            for place, outcome in zip(left, found, strict=True):
                outcomes[place] = outcome
            left = not_given_up(attempts, outcomes, left)
        return outcomes

    def _waited(self, wait: float, begun: float) -> None:
        """Have a wait in the server that began at a moment not count."""
        self._deadline += min(self._now() - begun, wait)
