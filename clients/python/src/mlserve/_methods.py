"""Methods of clients and pipelines, made of the functions that describe a command."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from mlserve.calls import Asked, Call
    from mlserve.results import Key, Tensor

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")


class Reply(Generic[T]):
    """What a call in a pipeline will answer, once the pipeline was executed."""

    __slots__ = ("_outcome", "call")

    def __init__(self, call: Call[T]) -> None:
        """Of this call, without an answer so far."""
        self.call = call
        self._outcome: Any = _NOTHING

    def put(self, outcome: T | Exception) -> None:
        """The answer, or the error."""
        self._outcome = outcome

    @property
    def value(self) -> T:
        """The result; raises the error that the call was answered with."""
        if self._outcome is _NOTHING:
            raise ValueError("the pipeline has not been executed yet")
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return cast("T", self._outcome)


_NOTHING = object()


class Features(Generic[R]):
    """The same fields to be asked of any entities: `features(keys)`, a Tensor.

    The words that are the same each time are packed once.
    """

    __slots__ = ("_asked", "_run")

    def __init__(self, asked: Asked, run: Callable[[Call[Tensor]], R]) -> None:
        """What is asked, and by what it is run."""
        self._asked = asked
        self._run = run

    @property
    def fields(self) -> list[Key]:
        """The names of the fields, in order."""
        return self._asked.fields

    def __call__(self, keys: Iterable[Key]) -> R:
        """The fields of these entities, a row for each."""
        return self._run(self._asked.of(keys))

    def call(self, keys: Iterable[Key]) -> Call[Tensor]:
        """The call for these entities, not run: a part of `serve`."""
        return self._asked.of(keys)


class Blocking:
    """Marks what answers at once."""


class Awaiting:
    """Marks what answers when it is awaited."""


class Collecting:
    """Marks what collects calls for later."""


class Prepared(Generic[P]):
    """How type checkers see a method that `prepared` makes."""

    @overload
    def __get__(self, owner: None, kind: object) -> Prepared[P]: ...
    @overload
    def __get__(self, owner: Blocking, kind: object) -> Callable[P, Features[Tensor]]: ...
    @overload
    def __get__(
        self, owner: Awaiting, kind: object
    ) -> Callable[P, Features[Awaitable[Tensor]]]: ...
    def __get__(self, owner: Any, kind: object) -> Any:
        """Bound to a client."""


class Method(Generic[P, T]):
    """How type checkers see a method that `method` makes."""

    @overload
    def __get__(self, owner: None, kind: object) -> Method[P, T]: ...
    @overload
    def __get__(self, owner: Blocking, kind: object) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Awaiting, kind: object) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, owner: Collecting, kind: object) -> Callable[P, Reply[T]]: ...
    def __get__(self, owner: Any, kind: object) -> Any:
        """Bound to a client or a pipeline."""


def method(describe: Callable[P, Call[T]]) -> Method[P, T]:
    """Make a method that runs, or collects, what the function describes."""

    def bound(self: Any, /, *args: Any, **options: Any) -> Any:
        return self.run(describe(*args, **options))

    return cast("Method[P, T]", alike(bound, describe, describe.__name__))


def prepared(describe: Callable[P, Asked]) -> Prepared[P]:
    """Make a method that prepares what is to be asked again and again."""

    def bound(self: Any, /, *args: Any, **options: Any) -> Any:
        return Features(describe(*args, **options), self.run)

    return cast("Prepared[P]", alike(bound, describe, "features"))


def alike(bound: Any, describe: Callable[..., Any], name: str) -> Any:
    """A plain function, so that a call costs no more than any, with the other's signature."""
    functools.update_wrapper(bound, describe, updated=())
    bound.__name__ = bound.__qualname__ = name
    signature = inspect.signature(describe)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    # Of Call[T] it is T that whoever calls the method has.
    answer = str(signature.return_annotation)
    answer = (
        answer.removeprefix("Call[").removesuffix("]") if describe.__name__ == name else "Features"
    )
    bound.__signature__ = signature.replace(
        parameters=[self, *signature.parameters.values()], return_annotation=answer
    )
    return bound


def collected(replies: list[Reply[Any]], call: Call[T]) -> Reply[T]:
    """Add a call to those of a pipeline."""
    if call.wait:
        raise ValueError("wait would hold up the other calls of a pipeline: run it by itself")
    reply = Reply(call)
    replies.append(reply)
    return reply


def handed_out(
    replies: Sequence[Reply[Any]], outcomes: list[Any], raise_on_error: bool
) -> list[Any]:
    """Tell each call of a pipeline what it was answered."""
    for reply, outcome in zip(replies, outcomes, strict=True):
        reply.put(outcome)
    return checked(outcomes) if raise_on_error else outcomes


def checked(outcomes: list[Any]) -> list[Any]:
    """The answers; raises the first error among them."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes
