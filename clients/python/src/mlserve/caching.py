"""The prediction cache as a decorator: one caller computes, the others get its answer.

```python
@mlserve.cached(client, "sentiment", version="v2", ttl=3600, lease=5)
def score(text): ...
```
"""

from __future__ import annotations

import functools
import inspect
import io
import json
from time import monotonic
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from mlserve import aio, calls, keys
from mlserve._steps import (
    AnyClient,
    Steps,
    Work,
    ask,
    ask_async,
    is_away,
    is_client,
    is_kind_of,
    logger,
    policy_of,
    run,
    run_async,
)
from mlserve.admission import Busy
from mlserve.errors import Error, ResponseError
from mlserve.results import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Self

    from mlserve.calls import Call, Seconds, Word
    from mlserve.results import Key

__all__ = ["JSON", "NUMPY", "Cached", "Serializer", "cached"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
MISSING = object()
REFUSED = {"MISCONF", "NOREPLICAS", "READONLY"}
"""Codes by which a server refuses fetches, which are writes, and still serves reads."""
LOOKS = 10
"""How often in the time of a lease a batch looks after all that others compute for it."""


class Serializer(Protocol):
    """Values as bytes and back. The module `pickle` is one.

    Whoever can write to the server can have a reader of pickles run anything.
    """

    def dumps(self, value: Any, /) -> bytes:
        """The bytes of a value."""

    def loads(self, data: bytes, /) -> Any:
        """The value of these bytes."""


class JSON:
    """Values that JSON gives back as they were; all others are a TypeError."""

    @staticmethod
    def dumps(value: Any, /) -> bytes:
        """A value as JSON."""
        plain(value)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    @staticmethod
    def loads(data: bytes, /) -> Any:
        """The value of JSON."""
        return json.loads(data)


def plain(value: Any) -> None:
    """Raise unless JSON gives a value back as it is: a tuple would become a list."""
    kind = type(value)
    if kind is list:
        for one in value:
            plain(one)
    elif kind is dict:
        for name, one in value.items():
            if type(name) is not str:
                raise TypeError(f"the name {name!r} in a dict would become text in JSON")
            plain(one)
    elif not (value is None or kind in (bool, int, float, str)):
        raise TypeError(
            f"JSON does not give back a {kind.__qualname__} as it was: keep plain values, or "
            "give a serializer= (NUMPY for arrays; pickle if the server is trusted)"
        )


class NUMPY:
    """NumPy arrays, in NumPy's own format, without pickles."""

    @staticmethod
    def dumps(value: Any, /) -> bytes:
        """An array as bytes."""
        import numpy

        buffer = io.BytesIO()
        numpy.save(buffer, value, allow_pickle=False)
        return buffer.getvalue()

    @staticmethod
    def loads(data: bytes, /) -> Any:
        """The array of these bytes."""
        import numpy

        return numpy.load(io.BytesIO(data), allow_pickle=False)


class Cached(Protocol[P, R_co]):
    """A function whose results are kept, as `cached` makes it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The answer, kept or computed."""

    def key(self, *args: Any, **kwargs: Any) -> str:
        """The key of the answer to these arguments; of a batch, to an item and the rest."""

    def drop(self, *args: Any, **kwargs: Any) -> Any:
        """Drop that answer, of all versions; how many went, awaited with an aio.Client.

        What is being computed for it cannot be set any more.
        """

    @overload
    def __get__(self, owner: None, kind: object) -> Self: ...
    @overload
    def __get__(self, owner: object, kind: object) -> Callable[..., R_co]: ...


def cached(
    client: AnyClient,
    name: str,
    *,
    version: str | bytes | Callable[..., str | bytes],
    ttl: Seconds | None = None,
    lease: Seconds = 5,
    wait: Seconds | None = None,
    stale: Seconds | None = None,
    early: float | None = None,
    jitter: int | None = None,
    backoff: Seconds | None = None,
    key: Callable[..., Any] | None = None,
    ignore: Iterable[str] = (),
    unicode: Literal["NFC", "NFKC", "NFD", "NFKD"] | None = None,
    serializer: Serializer = JSON,
    batch: bool = False,
    on_error: Literal["allow", "deny", "raise"] = "allow",
    on_busy: Literal["compute", "raise"] = "compute",
    on_failure: Literal["raise", "stale"] = "raise",
) -> Callable[[Callable[P, R_co]], Cached[P, R_co]]:
    """Keep what a function returns under a version of the model: a decorator.

    Of all callers in all processes that miss an answer one computes it, under a lease of
    `lease` seconds that is renewed at half of them; the others wait for it up to `wait`
    seconds, by default as long as the lease. An error of the function, or a cancellation,
    gives the lease back, with `backoff`, seconds, for nobody to try meanwhile. `ttl`,
    `stale`, `jitter` and `early` are those of cacheset and cachefetch. `version` may be a
    function, of nothing or of the arguments of the call.

    The function is plain with a Client, `async` with an aio.Client. With `batch` its first
    argument is a list of items and it returns a list of as many: it is called with those
    that are missing only. The keys are `name:hash` of all arguments, or of those not in
    `ignore`, or of what `key`, called with the same arguments, returns. The result has
    `key` and `drop`, which take the arguments of one answer: see Cached.

    While the server is away `on_error` has the function computed without the cache
    ("allow"), Busy raised ("deny"), or the error ("raise"). `on_busy`: what follows where
    another caller still computes after `wait`: compute all the same, or raise Busy.
    `on_failure`: what follows where the function raises an Exception: that, or, where one is
    there, the answer that was to be replaced ("stale"; stale-if-error of RFC 5861), for as
    long as `stale` says. The error is logged then. A batch has all its stale answers, or
    the error.
    """
    is_client(client)
    check_kept(name, ttl, jitter, serializer)
    served = stale if early is None else early
    check_flight(lease, ignore, on_busy, on_failure, stale=served)
    if key is not None and ignore:
        raise ValueError("key and ignore exclude each other")
    options = Options(
        name=name,
        ttl=ttl,
        lease=calls.in_seconds(lease),
        wait=calls.in_seconds(lease if wait is None else wait),
        stale=stale,
        early=early,
        jitter=jitter,
        backoff=backoff,
        unicode=unicode,
        serializer=serializer,
        on_error=policy_of(on_error),
        on_busy=on_busy,
        on_failure=on_failure,
    )
    asynchronous = isinstance(client, aio.Client)
    version_of = versions(version)

    def decorate(function: Callable[P, R_co]) -> Cached[P, R_co]:
        is_kind_of(client, function, "caches")
        compute: Callable[..., Any] = function
        argued = key_of(function, key, list(ignore))

        def place(*args: Any, **kwargs: Any) -> str:
            return options.place(function, argued(*args, **kwargs))

        def steps(*args: Any, **kwargs: Any) -> Steps[Any]:
            if not batch:
                told = version_of(*args, **kwargs)
                return one(options, told, place(*args, **kwargs), lambda: compute(*args, **kwargs))
            if not args:
                raise TypeError(f"{function.__qualname__} takes its items by position")
            items, rest = list(args[0]), args[1:]
            told = version_of(items, *rest, **kwargs)
            places = [place(item, *rest, **kwargs) for item in items]
            return several(
                options, told, items, places, lambda some: compute(some, *rest, **kwargs)
            )

        @functools.wraps(function)
        def plainly(*args: Any, **kwargs: Any) -> Any:
            return run(client, steps(*args, **kwargs))  # type: ignore[arg-type]

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await run_async(client, steps(*args, **kwargs))  # type: ignore[arg-type]

        def drop(*args: Any, **kwargs: Any) -> Any:
            call = calls.cachedrop(place(*args, **kwargs))
            return ask_async(client, call) if isinstance(client, aio.Client) else ask(client, call)

        made: Any = awaited if asynchronous else plainly
        made.key, made.drop = place, drop
        return cast("Cached[P, R_co]", made)

    return decorate


def check_kept(name: str, ttl: Seconds | None, jitter: int | None, serializer: Any) -> None:
    """Raise unless answers can be kept so."""
    if not isinstance(name, str):
        raise TypeError(f"name must be str: {name!r}")
    if ttl is not None:
        calls.milliseconds("ttl", ttl, above_0=True)
    if jitter is not None and not 0 <= jitter <= 100:
        raise ValueError(f"jitter must be from 0 to 100, percent: {jitter!r}")
    for wanted in ("dumps", "loads"):
        if not callable(getattr(serializer, wanted, None)):
            raise TypeError(f"serializer must have dumps and loads: {serializer!r}")


def check_flight(
    lease: Seconds, ignore: Iterable[str], on_busy: str, on_failure: str, *, stale: Any
) -> None:
    """Raise unless a function can be computed so, by one caller for all."""
    calls.milliseconds("lease", lease, above_0=True)
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be a list of names, not {ignore!r} alone")
    if on_busy not in ("compute", "raise"):
        raise ValueError(f'on_busy must be "compute" or "raise": {on_busy!r}')
    if on_failure not in ("raise", "stale"):
        raise ValueError(f'on_failure must be "raise" or "stale": {on_failure!r}')
    if on_failure == "stale" and stale is None:
        raise ValueError('on_failure="stale" needs stale: how many seconds past its expiry')


def versions(version: Any) -> Callable[..., str | bytes]:
    """What says the version of a call, by its arguments."""
    if not callable(version):
        return lambda *_, **__: version
    try:
        taken = inspect.signature(version).parameters.values()
    except ValueError:  # One of C, which says nothing of its arguments.
        taken = {}.values()
    # One with a default is there to be bound early, and not to be given.
    if any(
        one.default is one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        for one in taken
    ):
        return cast("Callable[..., str | bytes]", version)
    return lambda *_, **__: version()


class Options:
    """What a decorated function is cached by."""

    name: str
    ttl: Seconds | None
    lease: float
    wait: float
    stale: Seconds | None
    early: float | None
    jitter: int | None
    backoff: Seconds | None
    unicode: keys.Form | None
    serializer: Serializer
    on_error: str
    on_busy: str
    on_failure: str

    def __init__(self, **options: Any) -> None:
        """All of them, by name."""
        vars(self).update(options)

    def place(self, function: Callable[..., Any], argued: Any) -> str:
        """The key of a call."""
        try:
            return f"{self.name}:{keys.digest(argued, self.unicode)}"
        except TypeError as error:
            hint = "leave it out by ignore=, or say what counts by key="
            raise TypeError(f"{function.__qualname__}: {error}: {hint}") from None

    def away(self, error: Error) -> None:
        """Return where the cache is to be left out; else raise."""
        if not is_away(error) or self.on_error == "raise":
            raise error
        if self.on_error == "deny":
            raise Busy("the cache is away, and nothing is computed without it") from error

    def busy(self, lasts: float) -> None:
        """Return where the answer is to be computed though another computes it."""
        if self.on_busy == "raise":
            raise Busy("another caller computes the answer", retry_after=lasts)

    def instead(self, stale: Mapping[str, bytes | None], error: BaseException) -> dict[str, Any]:
        """What to serve in place of what failed: all of it, or nothing."""
        values: dict[str, Any] = {}
        if self.on_failure == "raise" or not isinstance(error, Exception):
            return values
        for key, data in stale.items():
            known, value = understood(self, data) if data is not None else (False, None)
            if not known:
                return {}
            values[key] = value
        logger.warning("mlserve: %s failed, stale answers are served", self.name, exc_info=error)
        return values


def key_of(
    function: Callable[..., Any], key: Callable[..., Any] | None, ignore: Sequence[str]
) -> Callable[..., Any]:
    """What a function's arguments make the key of: by position or by name, defaults too."""
    if key is not None:
        return key
    signature = inspect.signature(function)
    for name in ignore:
        if name not in signature.parameters:
            raise ValueError(f"ignore names {name!r}, which {function.__qualname__} does not take")

    def argued(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return [value for name, value in bound.arguments.items() if name not in ignore]

    return argued


def one(options: Options, version: Any, key: str, compute: Callable[[], Any]) -> Steps[Any]:
    """One call: fetched, or computed under a lease."""
    token: str | None = calls.new_id()
    wait = options.wait or None
    try:
        found = yield calls.cachefetch(
            key, version, options.lease, wait=wait, early=options.early, token=token
        )
    except Error as error:
        if not refused(error):
            options.away(error)
            return (yield Work(compute))
        values = yield from read(options, [key], version)
        return values[key] if values else (yield Work(compute))
    except BaseException:
        # Cancelled: the lease may have been granted all the same.
        yield from given_back(options, releases([key], token))
        raise
    stale = found.value
    if found.status in (Status.HIT, Status.STALE):
        known, value = understood(options, found.value)
        if known:
            return value
        token, stale = None, None
    elif found.status is not Status.LEASE:
        if found.status is Status.BUSY:
            options.busy(found.lasts)
        return (yield Work(compute))
    lease = Lease(
        [] if token is None else [calls.cacherenew(key, token, options.lease)],
        lambda data: set_call(options, {key: data}, version, token),
        lambda backoff: releases([key], token, backoff),
    )
    return (yield from computed(options, lease, compute, stale))


def refused(error: Error) -> bool:
    """Whether the server takes no writes for now, as fetches are, and serves reads."""
    return isinstance(error, ResponseError) and error.code in REFUSED


def read(options: Options, names: Sequence[str], version: Any) -> Steps[dict[str, Any]]:
    """What answers are there, stale ones too, without asking for leases."""
    values: dict[str, Any] = {}
    try:
        found = yield [calls.cacheget(key, version, stale=True) for key in names]
    except Error as error:
        options.away(error)
        return values
    for key, data in zip(names, found, strict=True):
        if data is not None:
            known, value = understood(options, data)
            if known:
                values[key] = value
    return values


class Readable(Protocol):
    """What says how answers are read, and by which name they are spoken of."""

    name: str
    serializer: Serializer


def understood(options: Readable, data: Any) -> tuple[bool, Any]:
    """Whether an answer is one of the serializer's, and the value that it is."""
    try:
        return True, options.serializer.loads(data)
    except Exception as error:
        logger.warning("mlserve: an answer of %s cannot be read: %s", options.name, error)
        return False, None


class Lease(NamedTuple):
    """A lease on an answer by the calls that it takes; without one nothing is renewed."""

    renewals: list[Call[Any]]
    keep: Callable[[bytes], Call[Any]]
    """What sets the answer."""
    release: Callable[[Seconds | None], list[Call[Any]]]
    """What gives it back, with a backoff."""


def computed(
    options: Options, lease: Lease, compute: Callable[[], Any], stale: bytes | None = None
) -> Steps[Any]:
    """Compute under a lease, and set the answer; an error gives the lease back."""
    value: Any = MISSING
    try:
        value = yield Work(compute, lease.renewals, options.lease / 2)
        data = options.serializer.dumps(value)
    except BaseException as error:
        yield from given_back(options, lease.release(options.backoff))
        served = options.instead({options.name: stale}, error) if value is MISSING else {}
        if served:
            return served[options.name]
        raise
    yield from kept(options, lease.keep(data), lease.release(None))
    return value


def set_call(
    options: Options, data: dict[Key, Word], version: Any, token: str | None
) -> Call[list[bool]]:
    """What sets answers as they are to be kept."""
    times: Any = {"ttl": options.ttl, "stale": options.stale, "jitter": options.jitter}
    return calls.cachemset(data, version, token=token, **times)


def releases(
    names: Sequence[Key], token: str | None, backoff: Seconds | None = None
) -> list[Call[bool]]:
    """What gives leases back; without a token there are none."""
    if token is None:
        return []
    return [calls.cacherelease(key, token, backoff=backoff) for key in names]


def kept(options: Readable, call: Call[Any], releases: list[Call[Any]]) -> Steps[Any]:
    """Set answers, to the result; where that is refused, nobody waits for them any longer."""
    try:
        return (yield call)
    except Error as error:
        logger.warning("mlserve: answers of %s were not kept: %s", options.name, error)
        if isinstance(error, ResponseError):
            yield from given_back(options, releases)
        return None


def given_back(options: Readable, releases: list[Call[Any]]) -> Steps[None]:
    """Release leases, all in one go; where that fails they end by their time."""
    if not releases:
        return
    try:
        yield releases
    except Error as error:
        logger.warning("mlserve: leases of %s were not given back: %s", options.name, error)


def several(
    options: Options,
    version: Any,
    items: list[Any],
    places: list[str],
    compute: Callable[[list[Any]], Any],
) -> Steps[list[Any]]:
    """A batch: what is there is read, what is missing computed in one go."""
    if not items:
        return []
    first: dict[str, Any] = {}
    for key, item in zip(places, items, strict=True):
        first.setdefault(key, item)
    batch = Batch(options, version, first, compute)
    try:
        yield from batch.run()
    except BaseException:
        yield from batch.give_back(None)
        raise
    return [batch.values[key] for key in places]


class Batch:
    """What a call of a batch function is to answer, and what of it is there."""

    def __init__(
        self,
        options: Options,
        version: Any,
        items: dict[str, Any],
        compute: Callable[[list[Any]], Any],
    ) -> None:
        """Of these items by key, before anything is asked."""
        self._options = options
        self._items = items
        self._compute = compute
        self._version = version
        self._token = calls.new_id()
        self.values: dict[str, Any] = {}
        # Of the keys that are to be computed: those under a lease, those whose answer
        # cannot be read, and those that are not kept.
        self._leased: list[str] = []
        self._unread: list[str] = []
        self._alone: list[str] = []
        # What the answers under a lease are to replace, where there is one.
        self._stale: dict[str, bytes | None] = {}

    def run(self) -> Steps[None]:
        """Fetch, compute, and wait for what others compute."""
        until = monotonic() + self._options.wait
        busy = yield from self._fetched(list(self._items))
        # Our own is set before others are waited for, so that nobody waits in a ring.
        yield from self._computed()
        while busy:
            # One is waited for at a time. What is computed meanwhile is there as well once it
            # is; what is given up meanwhile is seen between.
            first, *rest = busy
            begun = monotonic()
            wait = max(min(until - begun, self._options.lease / LOOKS), 0)
            late = yield from self._fetched([first], wait)
            busy = yield from self._fetched(rest)
            if monotonic() >= until:
                late, busy = {**late, **busy}, {}
            elif monotonic() - begun >= wait / 2:
                late, busy = {}, {**busy, **late}
            # Else it is told at once: nobody may compute it for now.
            if late:
                self._options.busy(max(late.values()))
                self._alone += late
            yield from self._computed()

    def give_back(self, backoff: Seconds | None) -> Steps[None]:
        """Release the leases that are held."""
        leased, self._leased = self._leased, []
        yield from given_back(self._options, releases(leased, self._token, backoff))

    def _fetched(self, names: list[str], wait: float = 0) -> Steps[dict[str, float]]:
        """Fetch some keys; those that others compute, and how long their leases last."""
        if not names:
            return {}
        busy = {}
        try:
            found = yield from self._fetch(names, wait)
        except Error as error:
            yield from self._without_leases(names, error)
            return {}
        except BaseException:
            # Cancelled: leases may have been granted all the same.
            self._leased += names
            raise
        for key, fetch in zip(names, found, strict=True):
            if fetch.status in (Status.HIT, Status.STALE):
                known, value = understood(self._options, fetch.value)
                if known:
                    self.values[key] = value
                else:
                    self._unread.append(key)
            elif fetch.status is Status.LEASE:
                self._leased.append(key)
                self._stale[key] = fetch.value
            elif fetch.status is Status.BUSY:
                busy[key] = fetch.lasts
            else:
                self._alone.append(key)
        return busy

    def _fetch(self, names: list[str], wait: float) -> Steps[Any]:
        """Ask for some keys; one of them may be waited for."""
        how: Any = {"version": self._version, "lease": self._options.lease, "token": self._token}
        early = self._options.early
        if wait > 0:
            return [(yield calls.cachefetch(names[0], wait=wait, early=early, **how))]
        if early is not None:
            return (yield [calls.cachefetch(key, early=early, **how) for key in names])
        return (yield calls.cachemfetch(names, **how))

    def _without_leases(self, names: list[str], error: Error) -> Steps[None]:
        """Go on where no leases are to be had."""
        found: dict[str, Any] = {}
        if refused(error):
            found = yield from read(self._options, names, self._version)
        else:
            self._options.away(error)
        self.values.update(found)
        self._alone += [key for key in names if key not in found]

    def _computed(self) -> Steps[None]:
        """Compute what is missing in one go, and set what is to be kept."""
        options, names = self._options, [*self._leased, *self._unread, *self._alone]
        if not names:
            return
        renewals = [calls.cacherenew(key, self._token, options.lease) for key in self._leased]
        items = [self._items[key] for key in names]
        answers: Any = MISSING
        try:
            answers = list((yield Work(lambda: self._compute(items), renewals, options.lease / 2)))
            if len(answers) != len(names):
                raise ValueError(f"{len(answers)} answers came for {len(names)} items")
            found = dict(zip(names, answers, strict=True))
            data = {
                key: options.serializer.dumps(found[key]) for key in self._leased + self._unread
            }
        except BaseException as error:
            yield from self.give_back(options.backoff)
            stale = {key: self._stale.get(key) for key in names}
            found = options.instead(stale, error) if answers is MISSING else {}
            if not found:
                raise
            self._unread, self._alone = [], []
            self.values.update(found)
            return
        self.values.update(found)
        leased, unread = self._leased, self._unread
        self._leased, self._unread, self._alone = [], [], []
        for keys_, token in ((leased, self._token), (unread, None)):
            if keys_:
                call = set_call(options, {key: data[key] for key in keys_}, self._version, token)
                yield from kept(options, call, releases(keys_, token))
