"""Limits and permits around a piece of work.

```python
rpm = mlserve.limit("100/minute", key="{acme}:rpm")
with mlserve.admit(client, rpm, mlserve.permit(8, key="{acme}:gpu"), hold=60) as admission:
    admission.actual(1)

@mlserve.admit(client, mlserve.limit("100/minute", key=lambda user, text: f"user:{user}"))
def score(user, text): ...
```
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import operator
import re
import threading
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from mlserve import aio, calls
from mlserve._steps import (
    AnyClient,
    Steps,
    Work,
    is_away,
    is_client,
    is_kind_of,
    logger,
    policy_of,
    renewing,
    renewing_async,
    run,
    run_async,
)
from mlserve.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from mlserve.calls import Algorithm, Seconds
    from mlserve.results import Admission, Key

__all__ = ["Admitted", "Asked", "Busy", "Denied", "Limited", "admit", "limit", "micros", "permit"]

F = TypeVar("F", bound="Callable[..., Any]")
KeyOf: TypeAlias = "Key | Callable[..., Key]"
CostOf: TypeAlias = "int | Callable[..., int]"
Policy: TypeAlias = tuple[int, "float | str | calls.Until"]
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
RATE = re.compile(r"(\d+)\s*(?:/|\s+per\s+)\s*(\d+)?\s*([a-z]+?)s?", re.IGNORECASE | re.ASCII)


class Denied(Error):
    """A call was not let in; `retry_after` is seconds, inf: never, None: not known."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        admission: Admission | None = None,
        asked: Sequence[Asked] = (),
    ) -> None:
        """The message, the wait, the decision at each key, and what was asked for."""
        super().__init__(message)
        self.retry_after = retry_after
        self.admission = admission
        self.asked = asked


class Limited(Denied):
    """A limit denied the call: 429 in HTTP."""


class Busy(Denied):
    """All permits are in use, or what is needed is away: 503 in HTTP."""


class Asked:
    """What a call is to take at a key: made by `limit` and `permit`.

    `policies` are a (count, window) for each window of a limit, a window being seconds, or
    "DAY", "WEEK", "MONTH" or an `Until`; empty of permits.
    """

    __slots__ = ("cost", "key", "make", "options", "policies")

    def __init__(
        self,
        key: KeyOf,
        cost: CostOf,
        make: Callable[..., calls.Limit | calls.Permit],
        policies: Sequence[Policy],
        **options: Any,
    ) -> None:
        """The key, the cost, and what makes the item of ML.ADMIT, with its options."""
        if not callable(key) and not isinstance(key, (str, bytes)):
            raise TypeError(f"key must be str or bytes: {key!r}")
        self.key: Any = key
        self.cost: Any = cost if callable(cost) else count("cost", cost)
        self.make = make
        self.policies = policies
        self.options = options

    @property
    def is_permit(self) -> bool:
        """Whether it is slots that are asked for."""
        return not self.policies

    @property
    def is_open(self) -> bool:
        """Whether the key or the cost depends on the arguments of a function."""
        return callable(self.key) or callable(self.cost)

    def of(self, *args: Any, **kwargs: Any) -> Asked:
        """What a call with these arguments is to take."""
        key = self.key(*args, **kwargs) if callable(self.key) else self.key
        cost = self.cost(*args, **kwargs) if callable(self.cost) else self.cost
        if callable(key):
            raise TypeError(f"key must be str or bytes: {key!r}")
        return Asked(key, cost, self.make, self.policies, **self.options)


def count(name: str, value: Any) -> int:
    """An integer that is not negative, of numpy too; True is none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer: {value!r}")
    found = operator.index(value)
    if not 0 <= found <= 2**53:
        raise ValueError(f"{name} must be from 0 to 2^53: {value!r}")
    return found


def rates(text: str) -> list[Policy]:
    """Rates such as "100/minute", "10 per 5 minutes", "10/second; 1000/day", in seconds."""
    found: list[Policy] = []
    for part in re.split("[;,]", text):
        match = RATE.fullmatch(part.strip())
        unit = match and UNITS.get(match[3].lower())
        if match and match[3].lower() in ("month", "year"):
            raise ValueError(
                f"rate must be in units of one length: {text!r}; a month of the calendar is "
                'limit(1000, "MONTH", key=...)'
            )
        if not match or not unit or match[2] == "0":
            units = ", ".join(UNITS)
            raise ValueError(
                f'rate must be such as "100/minute" or "10/5 seconds", in {units}: {text!r}'
            )
        found.append((count("rate", int(match[1])), int(match[2] or 1) * unit))
    return found


def windows(numbers: Sequence[Any]) -> list[Policy]:
    """Limits and windows in turn, as `client.ratelimit` takes them."""
    if len(numbers) % 2 or isinstance(numbers[0], str):
        raise ValueError(
            'rate must be text such as "100/minute", or a limit and a window, such as 100, 60, '
            f"for each window: {numbers!r}"
        )
    return [
        (count("limit", number), window_of(window))
        for number, window in zip(numbers[::2], numbers[1::2], strict=True)
    ]


def window_of(window: Any) -> float | str | calls.Until:
    """A window as a policy has it: whole seconds are an int."""
    if isinstance(window, calls.Until):
        return window
    if isinstance(window, str) and window in ("DAY", "WEEK", "MONTH"):
        return window
    try:
        length = 0.0 if isinstance(window, str) else float(calls.in_seconds(window))
    except TypeError:
        length = 0.0
    if not 0.001 <= length <= 31_622_400:
        raise ValueError(
            'window must be seconds from 0.001 to 31622400, "DAY", "WEEK", "MONTH" or Until(...): '
            f"{window!r}"
        )
    return int(length) if length.is_integer() else length


def limit(
    rate: str | int,
    *more: int | calls.WindowLike,
    key: KeyOf,
    cost: CostOf = 1,
    algorithm: Algorithm | None = None,
    burst: int | None = None,
    queue: int | None = None,
) -> Asked:
    """A limit, "100/minute", of which a call takes `cost`; see `mlserve.Limit`.

    The number before the unit belongs to the window: "100/5 minutes" is 100 in 300 s. Or a
    limit and a window in turn, as `client.ratelimit` takes them: `limit(100, 60, 10**6,
    "MONTH", key=...)` is 100 a minute and a million a month of the calendar, in UTC. A
    "day" of the text is 86,400 seconds; "DAY" ends at midnight. `Until(next_reset)` closes
    at the moment that a function says at each call.

    Tokens and money are costs too; of money, see `micros`. For `admit` as a decorator `key`
    and `cost` may be functions, which are called with the arguments of the decorated one.
    """
    if algorithm is not None and algorithm.upper() not in ("FIXED", "SLIDING", "GCRA"):
        raise ValueError(f"algorithm must be FIXED, SLIDING or GCRA: {algorithm!r}")
    policies = rates(rate) if isinstance(rate, str) and not more else windows((rate, *more))
    kinds = [type(window) if isinstance(window, calls.Until) else window for _, window in policies]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"rate must name each window once: {kinds}")
    numbers: Any = [number for policy in policies for number in policy]

    def make(cost: int) -> calls.Limit:
        return calls.Limit(
            *numbers,
            algorithm=algorithm,
            burst=burst,
            cost=cost,
            queue=queue,
        )

    return Asked(key, cost, make, policies, algorithm=algorithm, burst=burst, queue=queue)


def permit(maximum: int, *, key: KeyOf, cost: CostOf = 1, queue: int | None = None) -> Asked:
    """A slot of `maximum` that may be in use at once, held while the call runs.

    `key` and `cost` as for `limit`.
    """
    count("maximum", maximum)
    return Asked(key, cost, lambda cost: calls.Permit(maximum, cost=cost, queue=queue), [])


def micros(amount: Decimal | float | str) -> int:
    """Money in integer micro-units, rounded up: micros("0.0125") is 12500."""
    try:
        found = int((Decimal(str(amount)) * 10**6).to_integral_value(ROUND_CEILING))
    except (ArithmeticError, ValueError):
        raise ValueError(f"amount must be a number: {amount!r}") from None
    return count("amount", found)


def waits(retry_after: float) -> str:
    """How long, in words."""
    return f"again in {retry_after} s" if math.isfinite(retry_after) else "it can never fit"


class Admitted:
    """A call that was let in."""

    __slots__ = ("_actual", "_limits", "decision", "id", "lost")

    def __init__(
        self,
        id: str | None,  # noqa: A002
        decision: Admission | None,
        limits: list[Key],
    ) -> None:
        """The hold, and the decision, by limits of these keys; without both the server was away."""
        self.id = id
        self.decision = decision
        self.lost = False
        """Whether a renewal found that the hold is over, and its slots are others'."""
        self._limits = limits
        self._actual: dict[Key, int] = {}

    def actual(self, cost: int | dict[Key, int]) -> None:
        """What the call really cost: of its one limit, or by key. Else the estimate stands."""
        if not isinstance(cost, dict):
            if len(self._limits) != 1:
                raise ValueError(f"actual must be given by key: of {self._limits}")
            cost = {self._limits[0]: cost}
        for key in cost:
            if key not in self._limits:
                raise ValueError(f"actual of {key!r}: it is no limit of this call")
        self._actual = {key: count(f"actual of {key!r}", one) for key, one in cost.items()}


class admit:  # noqa: N801
    """Let a piece of work in by limits and permits.

    For a `with` or `async with` block, or as the decorator of a function, which is plain
    with a Client and `async` with an aio.Client. Threads and tasks may share one, each
    block has a hold of its own.

    All are taken or none; a denial raises Limited or Busy, with `wait`, seconds, only
    after waiting so long in the server. What is taken is held `hold` seconds, and renewed
    at half of them while the block runs. Its end settles: by `admission.actual(...)`, else
    as estimated; after an error in the block limits get back what `actual` does not name.
    Without `hold` limits are charged and nothing is settled.

    While the server is away `on_error` lets the work in ("allow"), raises Busy ("deny"),
    or raises the error ("raise").
    """

    def __init__(
        self,
        client: AnyClient,
        *asked: Asked,
        hold: Seconds | None = None,
        wait: Seconds | None = None,
        priority: int | None = None,
        on_error: Literal["allow", "deny", "raise"] = "raise",
    ) -> None:
        """What is asked of which client."""
        is_client(client)
        for one in asked:
            if not isinstance(one, Asked):
                raise TypeError(
                    f"what is asked for must be made by mlserve.limit or permit: {one!r}"
                )
        self.client = client
        self.asked = asked
        if hold is None and any(one.is_permit for one in asked):
            raise ValueError("hold must be given with a permit: how long it is held at most")
        if hold is not None:
            calls.milliseconds("hold", hold, above_0=True)
        self.hold = None if hold is None else calls.in_seconds(hold)
        self.wait = wait
        self.priority = priority
        self.on_error = policy_of(on_error)
        self._is_open = any(one.is_open for one in asked)
        if not self._is_open:
            items_of(asked)
        self._blocks: list[tuple[object, Block]] = []
        self._lock = threading.Lock()

    def __call__(self, function: F) -> F:
        """Let each call of a function in."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator runs after its call: open a block of admit in it")
        is_kind_of(self.client, function, "lets in")

        def block(*args: Any, **kwargs: Any) -> Block:
            return Block(self, [one.of(*args, **kwargs) for one in self.asked])

        @functools.wraps(function)
        def plainly(*args: Any, **kwargs: Any) -> Any:
            with block(*args, **kwargs):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            async with block(*args, **kwargs):
                return await function(*args, **kwargs)

        asynchronous = isinstance(self.client, aio.Client)
        return awaited if asynchronous else plainly  # type: ignore[return-value]

    def _block(self) -> Block:
        if self._is_open:
            raise TypeError("key and cost are functions for a decorator: give a block values")
        return Block(self, self.asked)

    def _push(self, block: Block, who: object) -> None:
        with self._lock:
            self._blocks.append((who, block))

    def _pop(self, who: object) -> Block:
        """The block that this thread or task opened last; else the only one there is.

        A generator may be closed by another task than the one that ran it.
        """
        with self._lock:
            for place in reversed(range(len(self._blocks))):
                if self._blocks[place][0] == who:
                    return self._blocks.pop(place)[1]
            if len(self._blocks) == 1:
                return self._blocks.pop()[1]
        raise RuntimeError(
            "a block is left by another thread or task than entered it, and others are open: "
            "make an admit for each"
        )

    def __enter__(self) -> Admitted:
        block = self._block()
        admitted = block.__enter__()
        self._push(block, threading.get_ident())
        return admitted

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pop(threading.get_ident()).__exit__(kind, error, trace)

    async def __aenter__(self) -> Admitted:
        block = self._block()
        admitted = await block.__aenter__()
        self._push(block, asyncio.current_task())
        return admitted

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pop(asyncio.current_task()).__aexit__(kind, error, trace)


def items_of(asked: Sequence[Asked]) -> dict[Key, calls.Limit | calls.Permit]:
    """The items of ML.ADMIT by their keys."""
    items = {one.key: one.make(cost=one.cost) for one in asked}
    if len(items) != len(asked):
        raise ValueError("key is given twice: each must be another")
    return items


class Block:
    """A block of work that is let in once, by the options of an `admit`."""

    __slots__ = ("_admit", "_admitted", "_asked", "_items", "_renewing")

    def __init__(self, by: admit, asked: Sequence[Asked]) -> None:
        """What is asked for."""
        self._admit = by
        self._asked = asked
        self._items = items_of(asked)
        self._admitted: Admitted
        self._renewing: Any

    def _begin(self) -> Steps[Admitted]:
        by = self._admit
        id = None if by.hold is None else calls.new_id()  # noqa: A001
        try:
            decision = yield calls.admit(
                self._items, hold=by.hold, id=id, wait=by.wait, priority=by.priority
            )
        except Error as error:
            if not is_away(error) or by.on_error == "raise":
                raise
            if by.on_error == "deny":
                raise Busy("the server is away, and nothing is let in without it") from error
            return Admitted(None, None, self._limits())
        except BaseException:
            # Cancelled: it may have been let in all the same.
            if id is not None:
                yield from self._settle(id, self._nothing())
            raise
        if not decision.admitted:
            kind = Busy if self._items[decision.binding].is_permit else Limited
            raise kind(
                f"{decision.binding!r} denies: {waits(decision.retry_after)}",
                retry_after=decision.retry_after,
                admission=decision,
                asked=self._asked,
            )
        return Admitted(id, decision, self._limits())

    def _limits(self) -> list[Key]:
        return [key for key, item in self._items.items() if not item.is_permit]

    def _nothing(self) -> list[int | None]:
        return [None if item.is_permit else 0 for item in self._items.values()]

    def _settle(self, id: str, actual: list[int | None]) -> Steps[None]:  # noqa: A002
        try:
            yield calls.settle(list(self._items), id, actual)
        except Error as error:
            logger.warning("mlserve: a hold was not settled, and ends by its time: %s", error)

    def _end(self, failed: bool) -> Steps[None]:
        admitted = self._admitted
        if admitted.id is None:
            return
        costs: list[int | None] = self._nothing() if failed else [None] * len(self._items)
        for place, key in enumerate(self._items):
            costs[place] = admitted._actual.get(key, costs[place])
        yield from self._settle(admitted.id, costs)

    def _work(self) -> Work:
        hold, admitted = self._admit.hold, self._admitted
        if hold is None or admitted.id is None:
            return Work(lambda: None)

        def renewed(answers: list[Any]) -> None:
            admitted.lost = not all(answers[0])

        renewal = calls.renew(list(self._items), admitted.id, hold)
        return Work(lambda: None, [renewal], hold / 2, renewed)

    def _client(self, *, asynchronous: bool) -> Any:
        if isinstance(self._admit.client, aio.Client) != asynchronous:
            raise TypeError("a Client is for `with`, an aio.Client for `async with`")
        return self._admit.client

    def __enter__(self) -> Admitted:
        client = self._client(asynchronous=False)
        self._admitted = run(client, self._begin())
        self._renewing = renewing(client, self._work())
        self._renewing.__enter__()
        return self._admitted

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._renewing.__exit__(None, None, None)
        run(self._client(asynchronous=False), self._end(kind is not None))

    async def __aenter__(self) -> Admitted:
        client = self._client(asynchronous=True)
        self._admitted = await run_async(client, self._begin())
        self._renewing = renewing_async(client, self._work())
        await self._renewing.__aenter__()
        return self._admitted

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._renewing.__aexit__(None, None, None)
        await run_async(self._client(asynchronous=True), self._end(kind is not None))
