"""Limits and permits around a piece of work.

```python
rpm = mlserve.limit("100/minute", key="{acme}:rpm")
with mlserve.admit(client, rpm, mlserve.permit(8, key="{acme}:gpu"), hold=60) as admission:
    admission.actual(1)
```
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Literal

from mlserve import aio, calls
from mlserve._steps import (
    AnyClient,
    Steps,
    Work,
    is_away,
    logger,
    policy_of,
    renewing,
    renewing_async,
    run,
    run_async,
)
from mlserve.errors import Error

if TYPE_CHECKING:
    from types import TracebackType

    from mlserve.calls import Algorithm, Seconds
    from mlserve.results import Admission, Key

__all__ = ["Admitted", "Asked", "Busy", "Denied", "Limited", "admit", "limit", "micros", "permit"]

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
RATE = re.compile(r"(\d+)\s*(?:/|\s+per\s+)\s*(\d+)?\s*([a-z]+?)s?", re.IGNORECASE | re.ASCII)


class Denied(Error):
    """A call was not let in; `retry_after` is seconds, inf: never, None: not known."""

    def __init__(self, message: str, *, retry_after: float | None = None,
                 admission: Admission | None = None) -> None:  # fmt: skip
        """The message, the wait, and the decision at each key."""
        super().__init__(message)
        self.retry_after = retry_after
        self.admission = admission


class Limited(Denied):
    """A limit denied the call: 429 in HTTP."""


class Busy(Denied):
    """All permits are in use, or what is needed is away: 503 in HTTP."""


class Asked:
    """What a call is to take at a key: made by `limit` and `permit`."""

    __slots__ = ("item", "key", "policies")

    def __init__(
        self, key: Key, item: calls.Limit | calls.Permit, policies: list[tuple[int, int]]
    ) -> None:
        """The key, the item of ML.ADMIT, and a (count, seconds) for each window."""
        if not isinstance(key, (str, bytes)):
            raise TypeError(f"key must be str or bytes: {key!r}")
        self.key = key
        self.item = item
        self.policies = policies


def count(name: str, value: Any) -> int:
    """An integer that is not negative; True is none."""
    if type(value) is not int:
        raise TypeError(f"{name} must be an integer: {value!r}")
    if not 0 <= value <= 2**53:
        raise ValueError(f"{name} must be from 0 to 2^53: {value!r}")
    return value


def rates(text: str) -> list[tuple[int, int]]:
    """Rates such as "100/minute", "10 per 5 minutes", "10/second; 1000/day", in seconds."""
    if not isinstance(text, str):
        raise TypeError(f'rate must be text such as "100/minute": {text!r}')
    found = []
    for part in re.split("[;,]", text):
        match = RATE.fullmatch(part.strip())
        unit = match and UNITS.get(match[3].lower())
        if not match or not unit or match[2] == "0":
            raise ValueError(f'rate must be such as "100/minute" or "10/5 seconds": {text!r}')
        found.append((count("rate", int(match[1])), int(match[2] or 1) * unit))
    return found


def limit(
    rate: str,
    *,
    key: Key,
    cost: int = 1,
    algorithm: Algorithm | None = None,
    burst: int | None = None,
    queue: int | None = None,
) -> Asked:
    """A limit, "100/minute", of which a call takes `cost`; see `mlserve.Limit`.

    The number before the unit belongs to the window: "100/5 minutes" is 100 in 300 s.
    Tokens and money are costs too; of money, see `micros`.
    """
    policies = rates(rate)
    first, *more = policies
    rest = [number for policy in more for number in policy]
    item = calls.Limit(
        *first, *rest, algorithm=algorithm, burst=burst, cost=count("cost", cost), queue=queue
    )
    return Asked(key, item, policies)


def permit(maximum: int, *, key: Key, cost: int = 1, queue: int | None = None) -> Asked:
    """A slot of `maximum` that may be in use at once, held while the call runs."""
    item = calls.Permit(count("maximum", maximum), cost=count("cost", cost), queue=queue)
    return Asked(key, item, [(maximum, 0)])


def micros(amount: Decimal | float | str) -> int:
    """Money in integer micro-units, rounded up: micros("0.0125") is 12500."""
    return count("amount", int((Decimal(str(amount)) * 10**6).to_integral_value(ROUND_CEILING)))


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
    """Let a piece of work in by limits and permits, for a `with` or `async with` block.

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
        self._client = client
        self._items = {one.key: one.item for one in asked}
        if len(self._items) != len(asked):
            raise ValueError("key is given twice: each must be another")
        if hold is None and any(one.is_permit for one in self._items.values()):
            raise ValueError("hold must be given with a permit: how long it is held at most")
        self._hold = None if hold is None else calls.in_seconds(hold)
        self._wait = wait
        self._priority = priority
        self._on_error = policy_of(on_error)
        self._admitted: Admitted | None = None
        self._renewing: Any = None

    def _begin(self) -> Steps[Admitted]:
        id = None if self._hold is None else calls.new_id()  # noqa: A001
        try:
            decision = yield calls.admit(
                self._items, hold=self._hold, id=id, wait=self._wait, priority=self._priority
            )
        except Error as error:
            if not is_away(error) or self._on_error == "raise":
                raise
            if self._on_error == "deny":
                raise Busy("the server is away, and nothing is let in without it") from error
            return Admitted(None, None, self._limits())
        except BaseException:
            # Cancelled: it may have been let in all the same.
            if id is not None:
                yield from self._settle(id, self._nothing())
            raise
        if not decision.admitted:
            kind = Busy if self._items[decision.binding].is_permit else Limited
            message = f"{decision.binding!r} denies: again in {decision.retry_after} s"
            raise kind(message, retry_after=decision.retry_after, admission=decision)
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
        admitted, self._admitted = self._admitted, None
        if admitted is None or admitted.id is None:
            return
        costs: list[int | None] = self._nothing() if failed else [None] * len(self._items)
        for place, key in enumerate(self._items):
            costs[place] = admitted._actual.get(key, costs[place])
        yield from self._settle(admitted.id, costs)

    def _work(self, admitted: Admitted) -> Work:
        if self._hold is None or admitted.id is None:
            return Work(lambda: None)
        renewal = calls.renew(list(self._items), admitted.id, self._hold)

        def renewed(answers: list[Any]) -> None:
            admitted.lost = not all(answers[0])

        return Work(lambda: None, [renewal], self._hold / 2, renewed)

    def _once(self, asynchronous: bool) -> None:
        if isinstance(self._client, aio.Client) != asynchronous:
            raise TypeError("a Client is for `with`, an aio.Client for `async with`")
        if self._admitted is not None:
            raise ValueError("the block is open already: make an admit for each")

    def __enter__(self) -> Admitted:
        self._once(asynchronous=False)
        self._admitted = admitted = run(self._client, self._begin())  # type: ignore[arg-type]
        self._renewing = renewing(self._client, self._work(admitted))  # type: ignore[arg-type]
        self._renewing.__enter__()
        return admitted

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._renewing.__exit__(None, None, None)
        run(self._client, self._end(kind is not None))  # type: ignore[arg-type]

    async def __aenter__(self) -> Admitted:
        self._once(asynchronous=True)
        self._admitted = admitted = await run_async(self._client, self._begin())  # type: ignore[arg-type]
        self._renewing = renewing_async(self._client, self._work(admitted))  # type: ignore[arg-type]
        await self._renewing.__aenter__()
        return admitted

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._renewing.__aexit__(None, None, None)
        await run_async(self._client, self._end(kind is not None))  # type: ignore[arg-type]
