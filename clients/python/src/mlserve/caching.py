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
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mlserve import aio, calls, keys
from mlserve._steps import (
    AnyClient,
    Steps,
    Work,
    is_away,
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
    from collections.abc import Callable, Iterable, Sequence

    from mlserve.calls import Seconds

__all__ = ["JSON", "NUMPY", "Serializer", "cached"]

F = TypeVar("F", bound="Callable[..., Any]")
REFUSED = {"MISCONF", "NOREPLICAS", "READONLY"}
"""Codes by which a server refuses fetches, which are writes, and still serves reads."""


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
            f"JSON does not give back a {kind.__qualname__} as it was: return plain values, or "
            "give cached a serializer= (NUMPY for arrays; pickle if the server is trusted)"
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


def cached(
    client: AnyClient,
    name: str,
    *,
    version: str | bytes | Callable[[], str | bytes],
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
) -> Callable[[F], F]:
    """Keep what a function returns under a version of the model: a decorator.

    Of all callers in all processes that miss an answer one computes it, under a lease of
    `lease` seconds that is renewed at half of them; the others wait for it up to `wait`
    seconds, by default as long as the lease. An error of the function, or a cancellation,
    gives the lease back, with `backoff`, seconds, for nobody to try meanwhile. `ttl`,
    `stale`, `jitter` and `early` are those of cacheset and cachefetch.

    The function is plain with a Client, `async` with an aio.Client. With `batch` its first
    argument is a list of items and it returns a list of as many: it is called with those
    that are missing only. The keys are `name:hash` of all arguments, or of those not in
    `ignore`, or of what `key`, called with the same arguments, returns.

    While the server is away `on_error` has the function computed without the cache
    ("allow"), Busy raised ("deny"), or the error ("raise"). `on_busy`: what follows where
    another caller still computes after `wait`: compute all the same, or raise Busy.
    """
    if on_busy not in ("compute", "raise"):
        raise ValueError(f'on_busy must be "compute" or "raise": {on_busy!r}')
    if key is not None and ignore:
        raise ValueError("key and ignore exclude each other")
    options = Options(
        name=name,
        version=version if callable(version) else lambda: version,
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
    )
    if options.lease <= 0:
        raise ValueError(f"lease must be seconds, above 0: {lease!r}")
    asynchronous = isinstance(client, aio.Client)

    def decorate(function: F) -> F:
        is_kind_of(client, function, "caches")
        argued = key_of(function, key, list(ignore))

        def steps(*args: Any, **kwargs: Any) -> Steps[Any]:
            if not batch:
                place = options.place(function, argued(*args, **kwargs))
                return one(options, place, lambda: function(*args, **kwargs))
            items, rest = list(args[0]), args[1:]
            places = [options.place(function, argued(item, *rest, **kwargs)) for item in items]
            return several(options, items, places, lambda some: function(some, *rest, **kwargs))

        @functools.wraps(function)
        def plainly(*args: Any, **kwargs: Any) -> Any:
            return run(client, steps(*args, **kwargs))  # type: ignore[arg-type]

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await run_async(client, steps(*args, **kwargs))  # type: ignore[arg-type]

        return awaited if asynchronous else plainly  # type: ignore[return-value]

    return decorate


class Options:
    """What a decorated function is cached by."""

    name: str
    version: Callable[[], str | bytes]
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


def one(options: Options, key: str, compute: Callable[[], Any]) -> Steps[Any]:
    """One call: fetched, or computed under a lease."""
    version = options.version()
    token: str | None = calls.new_id()
    wait = options.wait or None
    try:
        found = yield calls.cachefetch(
            key, version, options.lease, wait=wait, early=options.early, token=token
        )
    except ResponseError as error:
        if error.code not in REFUSED:
            options.away(error)
            return (yield Work(compute))
        return (yield from without_leases(options, key, version, compute))
    except Error as error:
        options.away(error)
        return (yield Work(compute))
    except BaseException:
        # Cancelled: the lease may have been granted all the same.
        yield from given_back(options, [key], token, None)
        raise
    if found.status in (Status.HIT, Status.STALE):
        known, value = understood(options, found.value)
        if known:
            return value
        token = None
    elif found.status is not Status.LEASE:
        if found.status is Status.BUSY:
            options.busy(found.lasts)
        return (yield Work(compute))
    return (yield from computed(options, key, version, token, compute))


def understood(options: Options, data: Any) -> tuple[bool, Any]:
    """Whether an answer is one of the serializer's, and the value that it is."""
    try:
        return True, options.serializer.loads(data)
    except Exception as error:
        logger.warning("mlserve: an answer of %s cannot be read: %s", options.name, error)
        return False, None


def computed(
    options: Options, key: str, version: Any, token: str | None, compute: Callable[[], Any]
) -> Steps[Any]:
    """Compute under a lease, and set the answer; an error gives the lease back."""
    renewals = [] if token is None else [calls.cacherenew(key, token, options.lease)]
    try:
        value = yield Work(compute, renewals, options.lease / 2)
        data = options.serializer.dumps(value)
    except BaseException:
        yield from given_back(options, [key], token, options.backoff)
        raise
    try:
        yield calls.cacheset(
            key,
            version,
            data,
            ttl=options.ttl,
            stale=options.stale,
            jitter=options.jitter,
            token=token,
        )
    except Error as error:
        logger.warning("mlserve: an answer of %s was not kept: %s", options.name, error)
    return value


def given_back(
    options: Options, names: Sequence[str], token: str | None, backoff: Seconds | None
) -> Steps[None]:
    """Release leases; where that fails they end by their time."""
    for key in names if token is not None else ():
        try:
            yield calls.cacherelease(key, token or "", backoff=backoff)
        except Error as error:
            logger.warning("mlserve: a lease of %s was not given back: %s", options.name, error)
            return


def without_leases(
    options: Options, key: str, version: Any, compute: Callable[[], Any]
) -> Steps[Any]:
    """Read only, where the server takes no writes for now."""
    try:
        data = yield calls.cacheget(key, version, stale=True)
    except Error as error:
        options.away(error)
        data = None
    if data is not None:
        known, value = understood(options, data)
        if known:
            return value
    return (yield Work(compute))


def several(
    options: Options, items: list[Any], places: list[str], compute: Callable[[list[Any]], Any]
) -> Steps[list[Any]]:
    """A batch: what is there is read, what is missing computed in one go."""
    if not items:
        return []
    version, token = options.version(), calls.new_id()
    first = dict(zip(places[::-1], items[::-1], strict=True))
    values: dict[str, Any] = {}
    leased: list[str] = []
    alone: list[str] = []
    busy: list[str] = []
    names = list(dict.fromkeys(places))
    until = monotonic() + options.wait
    try:
        found = yield calls.cachemfetch(names, version, options.lease, token=token)
        for key, fetch in zip(names, found, strict=True):
            if fetch.status in (Status.HIT, Status.STALE):
                known, values[key] = understood(options, fetch.value)
                if not known:
                    alone.append(key)
            else:
                kept = {Status.LEASE: leased, Status.BUSY: busy}.get(fetch.status, alone)
                kept.append(key)
    except ResponseError as error:
        if error.code in REFUSED:
            alone = yield from read_many(options, names, version, values)
        else:
            options.away(error)
            alone = names
    except Error as error:
        options.away(error)
        alone = names
    except BaseException:
        yield from given_back(options, names, token, None)
        raise
    yield from many_computed(options, version, token, leased, alone, first, values, compute)
    # What others compute is waited for once our own is set, so that nobody waits in a ring.
    leased, alone = [], []
    for key in busy:
        try:
            fetch = yield calls.cachefetch(
                key, version, options.lease, wait=max(until - monotonic(), 0.001), token=token
            )
        except Error as error:
            options.away(error)
            alone.append(key)
            continue
        except BaseException:
            yield from given_back(options, [*leased, key], token, None)
            raise
        known = fetch.status in (Status.HIT, Status.STALE)
        if known:
            known, values[key] = understood(options, fetch.value)
        elif fetch.status is Status.LEASE:
            leased.append(key)
            continue
        elif fetch.status is Status.BUSY:
            options.busy(fetch.lasts)
        if not known:
            alone.append(key)
    yield from many_computed(options, version, token, leased, alone, first, values, compute)
    return [values[key] for key in places]


def read_many(
    options: Options, names: list[str], version: Any, values: dict[str, Any]
) -> Steps[list[str]]:
    """Read only; the keys that are missing."""
    try:
        found = yield calls.cachemget(names, version)
    except Error as error:
        options.away(error)
        return names
    missing = []
    for key, data in zip(names, found, strict=True):
        known = False
        if data is not None:
            known, values[key] = understood(options, data)
        if not known:
            missing.append(key)
    return missing


def many_computed(
    options: Options,
    version: Any,
    token: str,
    leased: list[str],
    alone: list[str],
    first: dict[str, Any],
    values: dict[str, Any],
    compute: Callable[[list[Any]], Any],
) -> Steps[None]:
    """Compute what is leased and what is not in one go, and set what is leased."""
    names = leased + alone
    if not names:
        return
    renewals = [calls.cacherenew(key, token, options.lease) for key in leased]
    try:
        answer = yield Work(
            lambda: compute([first[key] for key in names]), renewals, options.lease / 2
        )
        answers = list(answer)
        if len(answers) != len(names):
            raise ValueError(f"{len(answers)} answers came for {len(names)} items")
        data = {key: options.serializer.dumps(value) for key, value in zip(leased, answers)}  # noqa: B905
    except BaseException:
        yield from given_back(options, leased, token, options.backoff)
        raise
    values.update(zip(names, answers, strict=True))
    if data:
        try:
            yield calls.cachemset(
                {**data},  # type: ignore[dict-item]
                version,
                ttl=options.ttl,
                stale=options.stale,
                jitter=options.jitter,
                token=token,
            )
        except Error as error:
            logger.warning("mlserve: answers of %s were not kept: %s", options.name, error)
