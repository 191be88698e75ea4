"""Quota leasing: a limit for callers who cannot afford a round trip a call.

```python
quota = mlserve.Quota(client, mlserve.limit("10000/minute", key="{acme}:rpm"))
quota.take()  # or raises Limited, with the wait; await quota.atake() with an aio.Client
quota.close()
```

Blocks of a limit are taken from the server and handed out here; what is left of a block at
the end of its life is settled, and so given back: by who takes next, or, where nobody does, by
a thread or the event loop.

**Never over the limit.** Let W be a window, L the life of a block, and a block of n units be
charged at the moment s of the server's clock, between the sending of the call and its
answer. Its units are handed out from then until L after the *sending*, which is before
s + L. What was not handed out is given back at s at the earliest, what was stays charged;
of a leaser that dies, all of it does. So:

- SLIDING: units handed out in (a, a + W] are of blocks charged in (a - L, a + W], which is
  W + L long. The limit is asked for over W + L, and no more than it is charged in that.
- GCRA: units handed out in an interval of length T are of blocks charged in one of length
  T + L. With a bucket of burst - rate * L that is at most burst - rate * L + rate * (T + L),
  which is burst + rate * T: what a bucket of the burst asked for lets in.
- FIXED: a block ends with the window that it is charged to, as the answer tells.

This holds while all who take from the key lease it for the same life; by FIXED, whoever
takes. Others are seen, as SLIDING is asked for over W too: with them the limit is exceeded
by what blocks hold at most. A server whose clock leaps forward, or that lost its data,
forgets charges too early, those of blocks as any others.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from mlserve import aio, calls
from mlserve._steps import AnyClient, Steps, is_away, is_client, logger, policy_of, run, run_async
from mlserve.admission import Asked, Busy, Limited, count
from mlserve.errors import Error, TimedOut, Unavailable

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from mlserve.calls import Seconds
    from mlserve.results import RateLimit

__all__ = ["Quota"]

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that nobody sets, and that goes on while the machine sleeps, as the server's does."""
DRIFT = 0.999
"""What a clock here is trusted to: two that NTP holds differ by a thousandth at most."""
SHARE = 20
"""A life that is not given is this part of the shortest window, or of a bucket's filling."""
LONGEST = 60.0
"""Seconds of a life that is not given, at most."""
MOST = 31_622_400.0
"""Seconds that a hold may last."""
OWED = 64
"""How many blocks are remembered for later, when they cannot be settled at once."""


def now() -> float:
    """Seconds of the clock that blocks are timed by."""
    return time.clock_gettime(CLOCK)


class Block:
    """Units of a limit that are charged, and are handed out until a moment."""

    __slots__ = ("granted", "id", "left", "until")

    def __init__(self, id: str | None, granted: int, until: float) -> None:  # noqa: A002
        """So many units under the id of a hold, until then."""
        self.id = id
        self.granted = granted
        self.left = granted
        self.until = until


class Terms:
    """What is asked of the server, so that what is handed out keeps to a limit."""

    def __init__(self, asked: Asked, life: Seconds | None) -> None:
        """Of what `mlserve.limit` made, for blocks of such a life."""
        if not isinstance(asked, Asked) or asked.is_permit:
            raise TypeError(f"a quota is of what mlserve.limit makes: {asked!r}")
        if asked.is_open:
            raise TypeError("key and cost must be values: functions are for a decorator")
        if asked.options["queue"] is not None:
            raise ValueError("queue is for calls that wait in the server, and a quota does not")
        self.asked = asked
        self.algorithm: Any = (asked.options["algorithm"] or "SLIDING").upper()
        for _, window in asked.policies:
            if not isinstance(window, (int, float)):
                raise ValueError(f"rate must be in seconds, as blocks are timed: {window!r}")
        quotas, windows = zip(*asked.policies, strict=True)
        burst = asked.options["burst"]
        if burst is not None and self.algorithm != "GCRA":
            raise ValueError('burst is for algorithm="GCRA" alone')
        self.capacity: int = min(quotas) if burst is None else burst
        self.burst = None
        self.life = self._life(life, min(windows))
        if self.algorithm != "SLIDING" and len(windows) > 1:
            # An answer tells when one window closes, and a bucket has but one.
            raise ValueError(f"algorithm must be SLIDING for several windows: {self.algorithm!r}")
        pairs = list(zip(quotas, windows, strict=True))
        if self.algorithm == "SLIDING":
            pairs += [(quota, window + self.life) for quota, window in pairs]
            if len(pairs) > 8:
                raise ValueError("rate must have 4 windows at most: each is kept twice")
            if len({window for _, window in pairs}) < len(pairs):
                raise ValueError(
                    f"life must be another: {self.life} s more than a window is another window"
                )
        elif self.algorithm == "GCRA":
            # Rounded up, in integers: what flows in during a life.
            flows = -(-quotas[0] * round(self.life * 10**6) // round(windows[0] * 10**6))
            self.burst = self.capacity = self.capacity - flows
            if self.capacity < 1:
                raise ValueError(
                    f"burst must be larger, or life shorter: {flows} flow in during the life of a "
                    "block, and must fit in it too"
                )
        self.pairs: list[Any] = [number for pair in pairs for number in pair]
        # As long as anything of it may weigh.
        self.hold = min(max(windows) + self.life, MOST)

    def _life(self, life: Seconds | None, window: float) -> float:
        if life is None:
            filled = 1.0
            if self.algorithm == "GCRA":
                filled = self.capacity / max(self.asked.policies[0][0], 1)
            found = min(window * filled / SHARE, LONGEST)
        else:
            found = calls.in_seconds(life)
            if not 0.001 <= found <= window:
                raise ValueError(f"life must be from 0.001 to {window} seconds, a window: {life!r}")
        return max(round(found, 3), 0.001)

    def call(self, cost: int, id: str | None = None) -> calls.Call[RateLimit]:  # noqa: A002
        """Take what is left of so many units under this id; without one, only ask."""
        call = calls.ratelimit(
            self.asked.key,
            *self.pairs,
            algorithm=self.algorithm,
            burst=self.burst,
            cost=cost,
            partial=id is not None,
            peek=id is None,
            hold=None if id is None else self.hold,
            id=id,
        )
        if self.algorithm == "FIXED":
            # A second answer might tell of the next window than the one that was charged.
            call.again = False
        return call

    def ends(self, sent: float, row: RateLimit) -> float:
        """When a block ends that was asked for at a moment."""
        lasts = self.life
        if self.algorithm == "FIXED":
            # Rounded up to a millisecond it was.
            lasts = min(lasts, row.reset_after - 0.001)
        return sent + lasts * DRIFT


class Quota:
    """A limit that is taken from the server in blocks, and handed out here.

    For threads with a Client, for tasks with an aio.Client (`atake`, `aclose`,
    `async with`). Nothing above the limit is handed out: how that is held, and when, see
    `mlserve.quota`. Where no algorithm is given it is SLIDING.

    `life`, seconds, is how long a block is handed out, by default a 20th of the shortest
    window, 60 s at most. The longer, the fewer round trips; but a window of W lets in
    limit / (W + life), and a bucket holds what flows in during a life less. All who share a
    key must say the same. `block` is how many units are taken at once; by default as many
    as a life needs, and a tenth of the limit at most. What a process that dies had taken
    stays charged for a window.

    `take` denies by Limited, with the wait, and until then without asking again, `life` at
    most. While the server is away what is left here is handed out; then `on_error` hands
    out without a limit ("allow"), raises Busy ("deny"), or the error ("raise").
    """

    def __init__(
        self,
        client: AnyClient,
        asked: Asked,
        *,
        block: int | None = None,
        life: Seconds | None = None,
        on_error: Literal["allow", "deny", "raise"] = "raise",
    ) -> None:
        """Of what `mlserve.limit` made, whose `cost` is what `take` takes."""
        is_client(client)
        self._client = client
        self._terms = terms = Terms(asked, life)
        if block is not None and not 1 <= count("block", block) <= terms.capacity:
            raise ValueError(f"block must be from 1 to {terms.capacity}: {block!r}")
        self._size = 1 if block is None else block
        self._grows = block is None
        self._on_error = policy_of(on_error)
        self._closed = False
        self._failures = 0
        self._forget()
        quotas.add(self)

    def _forget(self) -> None:
        """Begin without a block: of a fork the parent has it."""
        self._lock = threading.Lock()
        self._filling = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._ended = threading.Event()
        self._timers: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle | asyncio.Task[None]] = {}
        self._turns: weakref.WeakKeyDictionary[Any, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._block = NOTHING
        self._owed: deque[tuple[str, int]] = deque(maxlen=OWED)
        self._denied_cost, self._denied_until, self._denied_wait = 0, 0.0, 0.0

    def take(self, cost: int | None = None) -> None:
        """Have so many units, or raise Limited."""
        cost = self._terms.asked.cost if cost is None else count("cost", cost)
        if not self._has(cost):
            client, failures = self._of(asynchronous=False), self._failures
            with self._filling:
                try:
                    run(client, self._fill(cost, failures))
                finally:
                    self._watch()

    async def atake(self, cost: int | None = None) -> None:
        """Have so many units, or raise Limited."""
        cost = self._terms.asked.cost if cost is None else count("cost", cost)
        if not self._has(cost):
            client, failures = self._of(asynchronous=True), self._failures
            async with self._turn():
                try:
                    await run_async(client, self._fill(cost, failures))
                finally:
                    self._watch_in_loop()

    def _has(self, cost: int) -> bool:
        """Hand out of the block that is there, if it suffices."""
        with self._lock:
            block = self._block
            # The moment that counts is now.
            if cost <= block.left and now() < block.until:
                block.left -= cost
                return True
        return False

    def _of(self, *, asynchronous: bool) -> Any:
        if isinstance(self._client, aio.Client) != asynchronous:
            raise TypeError("a Client is for take and close, an aio.Client for atake and aclose")
        return self._client

    def _turn(self) -> asyncio.Lock:
        """Of the running loop: one task fills at a time."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def _fill(self, cost: int, failures: int) -> Steps[None]:
        """Hand out of a new block, unless one came, or a denial or a failure, while waiting."""
        if self._closed:
            raise ValueError("the quota is closed")
        if not cost or self._has(cost):
            return
        if cost > self._terms.capacity:
            raise self._denied(f"{cost} are never free at once", math.inf)
        left = self._denied_until - now()
        if left > 0 and cost >= self._denied_cost:
            raise self._denied("nothing is left", self._denied_wait + left)
        if self._failures != failures:
            self._away(Unavailable("the server was away while this call waited for another"))
            return
        try:
            wait = yield from self._asked(cost)
        except Error as error:
            if not is_away(error):
                raise
            self._failures += 1
            self._away(error)
            return
        if wait:
            lasts = min(wait, self._terms.life)
            self._denied_cost, self._denied_until = cost, now() + lasts
            self._denied_wait = wait - lasts
            raise self._denied("nothing is left", wait)

    def _away(self, error: Error) -> None:
        """Return where a call is let in without the server; else raise."""
        if self._on_error == "raise":
            raise error
        if self._on_error == "deny":
            raise Busy("the server is away, and nothing is let in without it") from error

    def _asked(self, cost: int) -> Steps[float]:
        """Hand out of a new block, or the wait where it does not suffice."""
        terms = self._terms
        self._replace(NOTHING)
        yield from self._settle()
        id, sent = calls.new_id(), now()  # noqa: A001
        try:
            row = yield terms.call(max(self._size, cost), id)
        except BaseException as error:
            # It may have been charged all the same, of which settling knows.
            if getattr(error, "sent", not isinstance(error, Error)):
                self._owed.append((id, 0))
            if not isinstance(error, Exception):
                yield from self._settle()
            raise
        missing = cost - row.granted
        block = Block(id, row.granted, terms.ends(sent, row)) if row.granted else NOTHING
        if self._replace(block, cost):
            return 0.0
        if missing <= 0:
            raise TimedOut("a block was over before it came: life must be longer", sent=True)
        wait: float = row.retry_after
        if row.granted or missing > 1:
            # What was told is the wait for the whole block, or for its first unit.
            wait = (yield terms.call(missing)).retry_after
        # At once, where something came free in between.
        return max(wait, 0.001)

    def _denied(self, why: str, wait: float) -> Limited:
        asked = self._terms.asked
        return Limited(f"{asked.key!r} denies: {why}", retry_after=wait, asked=[asked])

    def _replace(self, block: Block, cost: int = 0) -> bool:
        """Hand out of a new block first, and have the old one settled; whether it sufficed."""
        with self._lock:
            old, self._block = self._block, block
            if old.id is not None:
                self._owed.append((old.id, old.granted - old.left))
                self._learn(old)
            if cost <= block.left and now() < block.until:
                block.left -= cost
                return True
        return False

    def _learn(self, old: Block) -> None:
        """Size blocks by what a life needs: double where one does not last for half of it."""
        if not self._grows:
            return
        used = old.granted - old.left
        if old.left == 0 and now() < old.until - self._terms.life / 2:
            used = old.granted * 2
        self._size = min(max(used, 1), max(self._terms.capacity // 10, 1))

    def _settle(self) -> Steps[None]:
        """Give back what was not handed out, of all blocks that are over."""
        key = self._terms.asked.key
        while self._owed:
            id, used = self._owed[0]  # noqa: A001
            try:
                yield calls.settle([key], id, [used])
            except Error as error:
                if is_away(error):
                    raise
                logger.warning("mlserve: a block of %r is not settled: %s", key, error)
            self._owed.popleft()

    def _lapse(self) -> Steps[None]:
        """Give back what is left of a block that is over, and that nobody asked to replace."""
        if self._block.id is None or now() < self._block.until:
            return
        self._replace(NOTHING)
        try:
            yield from self._settle()
        except Error as error:
            logger.warning("mlserve: a block is not settled for now: %s", error)

    def _watch(self) -> None:
        """Have a block that is there given back when it is over, by a thread."""
        if self._block.id is not None and self._watcher is None:
            self._watcher = threading.Thread(
                target=self._watching, name="mlserve-quota", daemon=True
            )
            self._watcher.start()

    def _watching(self) -> None:
        """Give back blocks as they are over, until there is none."""
        while not self._ended.wait(max(self._block.until - now(), 0)):
            with self._filling:
                run(self._of(asynchronous=False), self._lapse())
                if self._block.id is None:
                    self._watcher = None
                    return

    def _watch_in_loop(self) -> None:
        """Have a block that is there given back when it is over, by the running loop."""
        loop = asyncio.get_running_loop()
        for other in list(self._timers):
            if other.is_closed():
                del self._timers[other]
        if self._block.id is not None and loop not in self._timers:

            def due() -> None:
                self._timers[loop] = loop.create_task(self._lapse_in_loop(loop))

            self._timers[loop] = loop.call_later(max(self._block.until - now(), 0), due)

    async def _lapse_in_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            async with self._turn():
                await run_async(self._of(asynchronous=True), self._lapse())
        finally:
            self._timers.pop(loop, None)
            self._watch_in_loop()

    def _end(self) -> Steps[None]:
        self._closed = True
        self._replace(NOTHING)
        try:
            yield from self._settle()
        except Error as error:
            logger.warning("mlserve: a block is not settled, and ends by its time: %s", error)

    def close(self) -> None:
        """Give back what was not handed out; nothing is after that."""
        client = self._of(asynchronous=False)
        self._ended.set()
        with self._filling:
            run(client, self._end())

    async def aclose(self) -> None:
        """Give back what was not handed out; nothing is after that."""
        client = self._of(asynchronous=True)
        async with self._turn():
            timer = self._timers.pop(asyncio.get_running_loop(), None)
            if timer is not None:
                timer.cancel()
            await run_async(client, self._end())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


NOTHING = Block(None, 0, 0.0)
quotas: weakref.WeakSet[Quota] = weakref.WeakSet()


def forget_all() -> None:
    """Leave the blocks that were there at a fork to the parent."""
    for quota in quotas:
        quota._forget()


os.register_at_fork(after_in_child=forget_all)
