"""Storages for the library `limits`, and so for Flask-Limiter and slowapi.

```python
import limits.storage, mlserve.limits

storage = limits.storage.storage_from_string("mlserve://127.0.0.1:6379")
```

Importing this module registers the schemes `mlserve://`, `mlserves://` (TLS) and
`mlserve+cluster://host:port,host:port`, and each with `async+` before it. Options are
those of `mlserve.Client.from_url`, and `key_prefix`.

- The fixed window is charged beyond the limit, as `limits` does it: its denials count
  until the window closes. Those of ML.RATELIMIT do not; the other strategies count none.
- The moving window and the sliding window counter are one algorithm here, SLIDING, which
  is exact up to 65 charges: what the counter estimates is counted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import limits.aio.storage
import limits.storage

from mlserve import aio, calls
from mlserve._clear import aclear, clear
from mlserve._drive import drive, drive_async
from mlserve.client import Client
from mlserve.errors import Error

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlserve.calls import Call

    T = TypeVar("T")
    Steps = Generator[Call[Any], Any, T]

__all__ = ["AsyncMlserveStorage", "MlserveStorage"]

NO_LIMIT = 2**40
"""`incr` is told no limit, and counts beyond any; an integer in every client."""

SCHEMES = ["mlserve", "mlserves", "mlserve+cluster"]


def client_of(kind: type[Client | aio.Client], uri: str, options: dict[str, Any]) -> Any:
    """The client that a URI of `limits` speaks of."""
    scheme, _, rest = uri.removeprefix("async+").partition("://")
    if scheme == "mlserve+cluster":
        user, _, places = rest.rpartition("@")
        at = user + "@" if user else ""
        nodes = [f"redis://{at}{place.strip()}" for place in places.strip("/").split(",")]
        return kind.cluster(*nodes, **options)
    return kind.from_url(f"{'rediss' if scheme == 'mlserves' else 'redis'}://{rest}", **options)


def incr(key: str, expiry: int, amount: int) -> Steps[int]:
    """Charge a fixed window whatever it holds; what is charged then."""
    row = yield calls.ratelimit(key, NO_LIMIT, expiry, algorithm="FIXED", cost=amount, force=True)
    return int(NO_LIMIT - row.remaining)


def get(key: str) -> Steps[int]:
    """What is charged to a fixed window."""
    info = yield calls.limitinfo(key)
    return max((window.used for window in info.windows), default=0) if info else 0


def get_expiry(key: str) -> Steps[float]:
    """When a fixed window closes, in seconds since 1970; now where none is open."""
    info = yield calls.limitinfo(key)
    waits = (window.reset_after for window in info.windows) if info else ()
    return time.time() + max(waits, default=0.0)


def acquire(key: str, limit: int, expiry: int, amount: int) -> Steps[bool]:
    """Take from a sliding window if it fits."""
    return bool((yield calls.ratelimit(key, limit, expiry, algorithm="SLIDING", cost=amount)))


def moving_window(key: str, limit: int, expiry: int) -> Steps[tuple[float, int]]:
    """When the oldest charge was, and what is charged."""

    def peek(cost: int) -> Call[Any]:
        return calls.ratelimit(key, limit, expiry, algorithm="SLIDING", cost=cost, peek=True)

    row = yield peek(1)
    now = time.time()
    if row.remaining >= limit:
        return now, 0
    if row.remaining > 0:
        # What just does not fit is let in when the oldest charge leaves.
        row = yield peek(row.remaining + 1)
    return now + row.retry_after - expiry, limit - row.remaining


def sliding_window(key: str, expiry: int) -> Steps[tuple[int, float, int, float]]:
    """All that is charged as of the current window, and none of a previous one."""
    info = yield calls.limitinfo(key)
    for window in info.windows if info else ():
        if window.window == expiry and window.used:
            # What just does not fit is let in when the oldest charge leaves.
            row = yield calls.ratelimit(
                key,
                window.limit,
                expiry,
                algorithm="SLIDING",
                cost=min(window.remaining + 1, window.limit),
                peek=True,
            )
            # A whole window would be taken for none: they are told apart by a remainder.
            return 0, 0.0, window.used, expiry + min(row.retry_after, expiry - 0.001)
    return 0, 0.0, 0, 0.0


def unlink(*keys: str) -> Steps[None]:
    """Forget some keys, which a cluster may keep apart."""
    for key in keys:
        yield calls.command("UNLINK", key, keys=[key], again=True)


def check(key: str) -> Steps[bool]:
    """Whether the server answers, and has the module."""
    try:
        yield calls.limitinfo(key)
    except Error:
        return False
    return True


class Storing:
    """What both storages have in common: their methods, which asyncio's callers await.

    Keys of `limits` end with a unit of time, never as those of the sliding windows here.
    """

    CLIENT: ClassVar[type[Client | aio.Client]]

    def __init__(
        self,
        uri: str = "mlserve://",
        wrap_exceptions: bool = False,
        *,
        key_prefix: str = "LIMITS",
        **options: Any,
    ) -> None:
        """Connect with the first call; see the module."""
        super().__init__(uri, wrap_exceptions)  # type: ignore[call-arg]
        self.prefix = key_prefix
        self.client: Any = client_of(self.CLIENT, uri, options)

    def _take(self, steps: Steps[Any]) -> Any:
        raise NotImplementedError

    @property
    def base_exceptions(self) -> type[Exception]:
        """What `wrap_exceptions` wraps."""
        return Error

    def fixed(self, key: str) -> str:
        """The key of a fixed window."""
        return f"{self.prefix}:{key}"

    def sliding(self, key: str) -> str:
        """The key of a sliding one."""
        return f"{self.prefix}:{key}/sliding"

    def incr(self, key: str, expiry: int, amount: int = 1) -> Any:
        """Charge a fixed window whatever it holds; what is charged then."""
        return self._take(incr(self.fixed(key), expiry, amount))

    def get(self, key: str) -> Any:
        """What is charged to a fixed window."""
        return self._take(get(self.fixed(key)))

    def get_expiry(self, key: str) -> Any:
        """When a fixed window closes, in seconds since 1970; now where none is open."""
        return self._take(get_expiry(self.fixed(key)))

    def check(self) -> Any:
        """Whether the server answers, and has the module."""
        return self._take(check(self.fixed("")))

    def clear(self, key: str) -> Any:
        """Forget what is charged to a key."""
        return self._take(unlink(self.fixed(key), self.sliding(key)))

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> Any:
        """Take from a sliding window if it fits."""
        return self._take(acquire(self.sliding(key), limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> Any:
        """When the oldest charge was, and what is charged."""
        return self._take(moving_window(self.sliding(key), limit, expiry))

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> Any:
        """Take from a sliding window if it fits."""
        return self._take(acquire(self.sliding(key), limit, expiry, amount))

    def get_sliding_window(self, key: str, expiry: int) -> Any:
        """All that is charged as of the current window, and none of a previous one."""
        return self._take(sliding_window(self.sliding(key), expiry))

    def clear_sliding_window(self, key: str, expiry: int) -> Any:  # noqa: ARG002
        """Forget what is charged to a key."""
        return self.clear(key)


class MlserveStorage(
    Storing,
    limits.storage.Storage,
    limits.storage.MovingWindowSupport,
    limits.storage.SlidingWindowCounterSupport,
):
    """A storage of `limits`, for threads."""

    STORAGE_SCHEME: ClassVar[list[str]] = SCHEMES  # type: ignore[misc]
    CLIENT = Client

    def _take(self, steps: Steps[T]) -> T:
        return drive(steps, self.client.run)

    def reset(self) -> int:
        """Forget all keys of the prefix; how many. O(all keys there are)."""
        return clear(self.client, f"{self.prefix}:")


class AsyncMlserveStorage(
    Storing,
    limits.aio.storage.Storage,
    limits.aio.storage.MovingWindowSupport,
    limits.aio.storage.SlidingWindowCounterSupport,
):
    """A storage of `limits.aio`: MlserveStorage with await."""

    STORAGE_SCHEME: ClassVar[list[str]] = ["async+" + scheme for scheme in SCHEMES]  # type: ignore[misc]
    CLIENT = aio.Client

    async def _take(self, steps: Steps[T]) -> T:
        return await drive_async(steps, self.client.run)

    async def reset(self) -> int:
        """See MlserveStorage."""
        return await aclear(self.client, f"{self.prefix}:")
