"""What can be asked of the server: a function for each command, the only description of it.

Each checks its arguments and makes a `Call`. The methods of `mlserve.Client`,
`mlserve.aio.Client` and of pipelines are made of these functions.

Keys, versions, fields and values are str or bytes. Times are seconds: int, float or
timedelta; the server counts milliseconds. Moments are seconds since 1970, or a datetime
with a time zone. docs/commands.md says what each command does.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

from mlserve.errors import Error
from mlserve.results import (
    Admission,
    CachedVersion,
    CacheInfo,
    FeatureInfo,
    FeatureView,
    Fetch,
    Hold,
    Key,
    LimitInfo,
    RateLimit,
    Status,
    Tensor,
    Value,
    Window,
    seconds,
)

__all__ = ["Algorithm", "Call", "Limit", "Permit", "Until", "new_id"]

T = TypeVar("T")

Word: TypeAlias = str | bytes | int | float
"""What the libraries send as it is."""
Seconds: TypeAlias = float | datetime.timedelta
Moment: TypeAlias = float | datetime.datetime
Algorithm: TypeAlias = Literal["FIXED", "SLIDING", "GCRA"]
Type: TypeAlias = Literal["AUTO", "F32", "F64", "I64", "STRING"]
TensorType: TypeAlias = Literal["f4", "f8", "i8"]
Program: TypeAlias = Generator["Sequence[Call[Any]]", "list[Any]", T]
"""Calls that are to be run at once, a batch after the other, until it returns the result;
the first error of a batch is thrown into it."""
Split: TypeAlias = Callable[["Sequence[Sequence[int]]"], "Program[T]"]
"""What to run in a cluster, by the places of the keys that share a slot."""

TENSOR_TYPES = {"f4": "F32", "f8": "F64", "i8": "I64"}
STATUSES: dict[Any, Status] = {status.value.encode(): status for status in Status}


class Call(Generic[T]):
    """A call of a command, ready to be sent.

    - `words` as `execute_command` takes them; or bytes, when they are packed already.
    - `read` makes the result of the answer.
    - `keys` that it touches; those of one call share a slot in a cluster.
    - `again`: whether it may be repeated after a lost connection.
    - `wait`: how many seconds it may wait in the server.
    - `split`: what to run instead in a cluster, where its keys are in several slots.
    - `everywhere`: each node of a cluster is asked; the answer is that of the last.
    """

    __slots__ = ("again", "everywhere", "keys", "read", "split", "wait", "words")

    def __init__(
        self,
        words: Sequence[Word] | bytes,
        read: Callable[[Any], T],
        keys: Sequence[Key] = (),
        *,
        again: bool = False,
        wait: float = 0,
        split: Split[T] | None = None,
        everywhere: bool = False,
    ) -> None:
        """What is sent, and what is made of the answer."""
        self.words = words
        self.read = read
        self.keys = keys
        self.again = again
        self.wait = wait
        self.split = split
        self.everywhere = everywhere

    @property
    def name(self) -> str:
        """The command."""
        if isinstance(self.words, bytes):
            return self.words.split(b"\r\n", 3)[2].decode()
        return str(self.words[0])


# --- arguments ----------------------------------------------------------------


def new_id() -> str:
    """A new id of a hold, or token of a lease: 128 random bits in hexadecimal."""
    return os.urandom(16).hex()


def milliseconds(name: str, value: Seconds) -> int:
    """Seconds as the server counts them; what is not 0 is 1 at least."""
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if not 0 <= value <= 1e11:
        raise ValueError(f"{name} must be seconds, not negative: {value!r}")
    return round(value * 1000) or int(value > 0)


def in_seconds(value: Seconds) -> float:
    """A time as a float."""
    return value.total_seconds() if isinstance(value, datetime.timedelta) else value


def moment(name: str, value: Moment) -> int:
    """A moment as the server counts them, in milliseconds since 1970."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name} must have a time zone: {value!r}")
        value = value.timestamp()
    if not 0 <= value <= 1e12:
        raise ValueError(f"{name} must be seconds since 1970: {value!r}")
    return round(value * 1000)


class Until:
    """A window that closes at a moment: seconds since 1970, or a datetime with a zone."""

    __slots__ = ("milliseconds",)

    def __init__(self, moment_: Moment) -> None:
        """The moment at which it closes."""
        self.milliseconds = moment("until", moment_)

    def __repr__(self) -> str:
        return f"Until({self.milliseconds / 1000})"


WindowLike: TypeAlias = (
    float | Decimal | datetime.timedelta | Until | Literal["DAY", "WEEK", "MONTH"]
)


def window_words(window: object) -> tuple[Word, ...]:
    """A window as the command has it: seconds with up to 6 decimals, or a moment."""
    if isinstance(window, (int, str)):
        return (window,)
    if isinstance(window, Until):
        return ("UNTIL", window.milliseconds)
    if isinstance(window, datetime.timedelta):
        window = Decimal(window // datetime.timedelta(microseconds=1)).scaleb(-6)
    if not isinstance(window, (float, Decimal)):
        raise TypeError(f"window must be seconds, DAY, WEEK, MONTH or Until(...): {window!r}")
    return (f"{window:.6f}".rstrip("0").rstrip("."),)


def limit_words(
    limit: int,
    window: WindowLike,
    more: tuple[Any, ...],
    algorithm: Algorithm | None,
    burst: int | None,
    cost: int,
) -> list[Word]:
    """What limits of a command and of an item have in common."""
    words: list[Word] = [limit, *window_words(window)]
    if more:
        if len(more) % 2:
            raise ValueError("a limit and a window must be given for each further window")
        for at in range(0, len(more), 2):
            words += [more[at], *window_words(more[at + 1])]
    if algorithm is not None:
        words += ["ALGORITHM", algorithm]
    if burst is not None:
        words += ["BURST", burst]
    if cost != 1:
        words += ["COST", cost]
    return words


def listed(name: str, values: Iterable[T]) -> list[T]:
    """Several values; one str or bytes by itself is a mistake."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name} must be a list of them, not {values!r} alone")
    found = list(values)
    if not found:
        raise ValueError(f"{name} must not be empty")
    return found


def expiry_words(ttl: Seconds | None, expires_at: Moment | None) -> list[Word]:
    """When something expires: in so many seconds, or at a moment."""
    if ttl is not None and expires_at is not None:
        raise ValueError("ttl and expires_at exclude each other")
    if ttl is not None:
        return ["PX", milliseconds("ttl", ttl)]
    if expires_at is not None:
        return ["PXAT", moment("expires_at", expires_at)]
    return []


# --- answers ------------------------------------------------------------------


def text_of(value: str | bytes) -> str:
    """Text of the server's own."""
    return value if isinstance(value, str) else value.decode()


def as_it_is(answer: Any) -> Any:
    """The answer itself."""
    return answer


def flags_of(answer: list[int]) -> list[bool]:
    """Ones and zeros."""
    return [value == 1 for value in answer]


def flag_of(answer: int) -> bool:
    """One or zero."""
    return answer == 1


def written(answer: bytes | None) -> bool:
    """OK or nil."""
    return answer is not None


def all_written(answer: list[bytes | None]) -> list[bool]:
    """OK or nil, for each key."""
    return [value is not None for value in answer]


def pairs_of(answer: Any) -> dict[Any, Any]:
    """A map: in RESP2 a flat array of both."""
    if isinstance(answer, dict):
        return answer
    return dict(zip(answer[::2], answer[1::2], strict=True))


def named(answer: Any) -> dict[str, Any]:
    """A map whose names are the server's own."""
    return {text_of(name): value for name, value in pairs_of(answer).items()}


def rate_limit_of(answer: list[Any]) -> RateLimit:
    """Five figures, with a hold six."""
    retry = answer[3]
    return RateLimit(
        answer[0],
        answer[1],
        answer[2],
        retry / 1000 if retry >= 0 else float("inf"),
        answer[4] / 1000,
        None if len(answer) < 6 or answer[5] is None else text_of(answer[5]),
    )


def fetch_of(answer: list[Any]) -> Fetch:
    """A status, a value, a token, a time."""
    status, value, token, lasts = answer
    return Fetch(STATUSES[status], value, None if token is None else text_of(token), lasts / 1000)


def fetches_of(answer: list[Any]) -> list[Fetch]:
    """Several of them."""
    return [fetch_of(one) for one in answer]


# --- calls in a cluster -------------------------------------------------------


def in_order(part: Callable[[Sequence[int]], Call[list[T]]]) -> Split[list[T]]:
    """Split by slot a call whose answer has a place for each key; put it back in order."""

    def program(groups: Sequence[Sequence[int]]) -> Program[list[T]]:
        answers = yield [part(group) for group in groups]
        places = [place for group in groups for place in group]
        values = [value for answer in answers for value in answer]
        found = dict(zip(places, values, strict=True))
        return [found[place] for place in range(len(places))]

    return program


def chosen(values: Sequence[T], places: Sequence[int]) -> list[T]:
    """Those at some places."""
    return [values[place] for place in places]


# --- any command --------------------------------------------------------------


def command(*words: Word, keys: Iterable[Key] = (), again: bool = False) -> Call[Any]:
    """Any command of the server, with its answer as it is, by the protocol in use.

    `keys` are those that it touches, for a cluster; `again` says that it may be repeated
    after a lost connection.
    """
    if not words:
        raise ValueError("words must name a command")
    return Call(words, as_it_is, tuple(keys), again=again)


# --- limits -------------------------------------------------------------------


def ratelimit(
    key: Key,
    limit: int,
    window: WindowLike,
    *more: int | WindowLike,
    algorithm: Algorithm | None = None,
    burst: int | None = None,
    cost: int = 1,
    peek: bool = False,
    partial: bool = False,
    force: bool = False,
    hold: Seconds | None = None,
    id: str | None = None,  # noqa: A002
) -> Call[RateLimit]:
    """Take a cost from a limit if it fits (ML.RATELIMIT).

    `ratelimit("user:1", 100, 60)` allows 100 calls in 60 seconds; further pairs are
    further windows, decided together: `ratelimit("user:1", 10, 1, 1000, 86400)`. A
    window is seconds with up to 6 decimals, or "DAY", "WEEK", "MONTH", or `Until(moment)`.

    `burst` is what a full bucket of GCRA holds. `peek` takes nothing, `partial` takes
    what is left where the whole does not fit, `force` takes all, fit or not. With
    `hold`, seconds, the cost is an estimate to be settled within them, under the `id` of
    the result: the caller's own, or a new one.

    It is repeated after a lost connection with `hold` or `peek` only: else it could be
    charged twice.
    """
    words: list[Word] = [
        "ML.RATELIMIT",
        key,
        *limit_words(limit, window, more, algorithm, burst, cost),
    ]
    if peek:
        words.append("PEEK")
    if partial:
        words.append("PARTIAL")
    if force:
        words.append("FORCE")
    if hold is not None:
        words += ["HOLD", milliseconds("hold", hold), "ID", id or new_id()]
    elif id is not None:
        words += ["ID", id]
    return Call(words, rate_limit_of, (key,), again=peek or hold is not None)


class Limit:
    """What a call takes from a limit: an item of `admit`. The arguments of `ratelimit`.

    With `queue`, who would wait where so many are held up at the key already is denied
    at once.
    """

    __slots__ = ("is_permit", "words")

    def __init__(
        self,
        limit: int,
        window: WindowLike,
        *more: int | WindowLike,
        algorithm: Algorithm | None = None,
        burst: int | None = None,
        cost: int = 1,
        queue: int | None = None,
    ) -> None:
        """The limit, and what is taken from it."""
        self.is_permit = False
        self.words = ["LIMIT", *limit_words(limit, window, more, algorithm, burst, cost)]
        if queue is not None:
            self.words += ["QUEUE", queue]

    def __repr__(self) -> str:
        return f"<{' '.join(map(str, self.words))}>"


class Permit:
    """Slots that a call holds, of `maximum` that may be in use: an item of `admit`.

    `queue` as for Limit.
    """

    __slots__ = ("is_permit", "words")

    def __init__(self, maximum: int, *, cost: int = 1, queue: int | None = None) -> None:
        """How many there are, and how many are taken."""
        self.is_permit = True
        self.words: list[Word] = ["PERMIT", maximum]
        if cost != 1:
            self.words += ["COST", cost]
        if queue is not None:
            self.words += ["QUEUE", queue]

    def __repr__(self) -> str:
        return f"<{' '.join(map(str, self.words))}>"


UNDO = 60.0
"""Seconds within which an admission of several slots without a hold can be taken back."""


def admit(
    items: Mapping[Key, Limit | Permit],
    *,
    hold: Seconds | None = None,
    id: str | None = None,  # noqa: A002
    peek: bool = False,
    force: bool = False,
    wait: Seconds | None = None,
    priority: int | None = None,
) -> Call[Admission]:
    """Let a call in if it fits the limits and permits of all keys, or take nothing (ML.ADMIT).

        admit({"{acme}:rpm": Limit(60, 60), "{acme}:gpu": Permit(8)}, hold=120)

    With `hold`, seconds, what was taken is to be settled within them, under the `id` of
    the result: the caller's own, or a new one. A Permit needs `hold`, or `peek`, which
    takes nothing. `force` charges limits, fit or not. With `wait`, seconds, who is denied
    waits in the server; a higher `priority`, 0 to 255, is let in first.

    With `hold` or `peek` it is repeated after a lost connection.

    In a cluster the keys of several slots are asked slot by slot under one id; when one
    denies, what the others took is given back.
    """
    keys = list(items)
    if not keys:
        raise ValueError("items must not be empty")
    if hold is not None and not peek:
        id = id or new_id()  # noqa: A001
    words: list[Word] = ["ML.ADMIT", len(keys), *keys]
    for item in items.values():
        words += item.words
    if hold is not None:
        words += ["HOLD", milliseconds("hold", hold)]
    if id is not None:
        words += ["ID", id]
    if peek:
        words.append("PEEK")
    if force:
        words.append("FORCE")
    if wait is not None:
        words += ["WAIT", milliseconds("wait", wait)]
    if priority is not None:
        words += ["PRIORITY", priority]

    def read(answer: list[Any]) -> Admission:
        admitted, hold_id, retry, binding, rows = answer
        return Admission(
            admitted == 1,
            None if hold_id is None else text_of(hold_id),
            seconds(retry),
            None if binding is None else keys[binding],
            {key: rate_limit_of(row) for key, row in zip(keys, rows, strict=True)},
        )

    def split(groups: Sequence[Sequence[int]]) -> Program[Admission]:
        parts = [{keys[place]: items[keys[place]] for place in group} for group in groups]
        return admit_by_slot(parts, keys, hold, id, peek, force, wait, priority)

    return Call(
        words,
        read,
        keys,
        again=peek or hold is not None,
        wait=0 if wait is None else in_seconds(wait),
        split=split,
    )


def admit_by_slot(
    parts: Sequence[Mapping[Key, Limit | Permit]],
    keys: Sequence[Key],
    hold: Seconds | None,
    id: str | None,  # noqa: A002
    peek: bool,
    force: bool,
    wait: Seconds | None,
    priority: int | None,
) -> Program[Admission]:
    """Ask slot by slot with one id; give back what was taken where a later one denies."""
    if peek or (force and hold is None):
        at_once = yield [admit(part, hold=hold, peek=peek, force=force) for part in parts]
        return joined(at_once, keys, None)
    # Without an id nothing could be given back.
    under = id or new_id()
    until = time.monotonic() + (0 if wait is None else in_seconds(wait))
    answers: list[Admission] = []
    try:
        for part in parts:
            left = None if wait is None else max(0.0, until - time.monotonic())
            answers += yield [
                admit(
                    part,
                    hold=UNDO if hold is None else hold,
                    id=under,
                    force=force,
                    wait=left,
                    priority=priority,
                )
            ]
            if not answers[-1].admitted:
                break
        else:
            return joined(answers, keys, None if hold is None else under)
    except Error:
        # Also of the one that failed it is not known whether it was let in.
        yield from given_back(parts[: len(answers) + 1], under)
        raise
    taken, rest = parts[: len(answers) - 1], parts[len(answers) :]
    yield from given_back(taken, under)
    answers += (yield [admit(part, peek=True) for part in rest]) if rest else []
    return joined(answers, keys, None)


def given_back(parts: Sequence[Mapping[Key, Limit | Permit]], id: str) -> Program[None]:  # noqa: A002
    """Settle at 0 what was taken; what cannot be reached is over at the end of its hold."""
    calls = [
        settle(list(part), id, [None if item.is_permit else 0 for item in part.values()])
        for part in parts
    ]
    # All are asked, whatever is answered.
    with contextlib.suppress(Error):
        yield calls


def joined(answers: Sequence[Admission], keys: Sequence[Key], id: str | None) -> Admission:  # noqa: A002
    """One admission made of those of several slots."""
    rows = {key: row for answer in answers for key, row in answer.rows.items()}
    denials = [answer for answer in answers if not answer.admitted]
    if not denials:
        return Admission(True, id, 0.0, None, {key: rows[key] for key in keys})
    worst = max(denials, key=lambda answer: answer.retry_after)
    denied = {key: rows[key]._replace(granted=0, id=None) for key in keys}
    return Admission(False, None, worst.retry_after, worst.binding, denied)


def settle(
    keys: Iterable[Key],
    id: str,  # noqa: A002
    actual: Sequence[int | None] | None = None,
) -> Call[list[bool]]:
    """End a hold by what it really cost, and give its permits back (ML.SETTLE).

    `actual` is a cost for each key; None stands for as estimated, and for a key of
    permits nothing else may. Without it all estimates stand. The result says for each
    key whether the hold was open there. It may be repeated.
    """
    names = listed("keys", keys)
    words: list[Word] = ["ML.SETTLE", len(names), *names, id]
    if actual is not None:
        words.append("ACTUAL")
        words += ["-" if cost is None else cost for cost in actual]

    def part(places: Sequence[int]) -> Call[list[bool]]:
        return settle(chosen(names, places), id, None if actual is None else chosen(actual, places))

    if actual is not None and len(actual) != len(names):
        raise ValueError(f"actual must be given for each of the {len(names)} keys")
    return Call(words, flags_of, names, again=True, split=in_order(part))


def renew(keys: Iterable[Key], id: str, hold: Seconds) -> Call[list[bool]]:  # noqa: A002
    """Have the time of a hold start anew: it ends `hold` seconds from now (ML.RENEW).

    The result says for each key whether the hold was open there; one that is over is not
    revived. It may be repeated.
    """
    names = listed("keys", keys)
    words: list[Word] = ["ML.RENEW", len(names), *names, id, milliseconds("hold", hold)]

    def part(places: Sequence[int]) -> Call[list[bool]]:
        return renew(chosen(names, places), id, hold)

    return Call(words, flags_of, names, again=True, split=in_order(part))


def limitinfo(key: Key) -> Call[LimitInfo | None]:
    """What a key of a limit or of permits holds, or None (ML.LIMITINFO)."""

    def window_of(answer: Any) -> Window:
        found = named(answer)
        return Window(
            found["window_ms"] / 1000 if "window_ms" in found else text_of(found["window"]),
            found["limit"],
            found.get("burst"),
            found["used"],
            found["remaining"],
            found["reset_after_ms"] / 1000,
        )

    def hold_of(answer: Any) -> Hold:
        found = named(answer)
        return Hold(text_of(found["id"]), found["cost"], found["ttl_ms"] / 1000)

    def read(answer: Any) -> LimitInfo | None:
        if answer is None:
            return None
        found = named(answer)
        algorithm = found.get("algorithm")
        return LimitInfo(
            None if algorithm is None else text_of(algorithm),
            [window_of(window) for window in found.get("windows", [])],
            found.get("in_use"),
            [hold_of(hold) for hold in found["holds"]],
            found["waiters"],
        )

    return Call(["ML.LIMITINFO", key], read, (key,), again=True)


# --- the prediction cache -----------------------------------------------------


def set_words(
    ttl: Seconds | None,
    expires_at: Moment | None,
    stale: Seconds | None,
    jitter: int | None,
    token: str | None,
) -> list[Word]:
    """What cacheset and cachemset have in common."""
    words = expiry_words(ttl, expires_at)
    if stale is not None:
        words += ["STALE", milliseconds("stale", stale)]
    if jitter is not None:
        words += ["JITTER", jitter]
    if token is not None:
        words += ["TOKEN", token]
    return words


def cacheset(
    key: Key,
    version: Key,
    value: Word,
    *,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    stale: Seconds | None = None,
    jitter: int | None = None,
    token: str | None = None,
    json: bool = False,
) -> Call[bool]:
    """Keep an answer under a version of the model (ML.CACHESET).

    It expires after `ttl` seconds or at the moment `expires_at`, else as the server is
    set; `stale` seconds past that it may be served while another is computed. `jitter`
    takes up to so many percent off. `token` is that of the lease that it was computed
    under. With `json` the server refuses a value that is none.

    False where the version is not in force, or the token is no longer the holder's. With
    a `token` it is repeated after a lost connection.
    """
    words: list[Word] = ["ML.CACHESET", key, version, value]
    words += set_words(ttl, expires_at, stale, jitter, token)
    if json:
        words.append("JSON")
    return Call(words, written, (key,), again=token is not None)


def cacheget(key: Key, version: Key, *, stale: bool = False) -> Call[bytes | None]:
    """The answer kept under a version, or None (ML.CACHEGET).

    With `stale` also one that has expired, for as long as it may be served: what to fall
    back to where a fetch is refused. It may be repeated.
    """
    words: list[Word] = ["ML.CACHEGET", key, version]
    if stale:
        words.append("STALE")
    return Call(words, as_it_is, (key,), again=True)


def cachemget(keys: Iterable[Key], version: Key) -> Call[list[bytes | None]]:
    """The answer for each key, or None, in order (ML.CACHEMGET). It may be repeated."""
    names = listed("keys", keys)

    def part(places: Sequence[int]) -> Call[list[bytes | None]]:
        return cachemget(chosen(names, places), version)

    words = ["ML.CACHEMGET", len(names), *names, version]
    return Call(words, as_it_is, names, again=True, split=in_order(part))


def cachemset(
    values: Mapping[Key, Word],
    version: Key,
    *,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    stale: Seconds | None = None,
    jitter: int | None = None,
    token: str | None = None,
) -> Call[list[bool]]:
    """`cacheset` of several keys (ML.CACHEMSET); whether each was written, in order.

    `token` is the one of a cachemfetch. With it, it is repeated after a lost connection.
    """
    names = list(values)
    if not names:
        raise ValueError("values must not be empty")
    words: list[Word] = ["ML.CACHEMSET", len(names)]
    for key, value in values.items():
        words += [key, value]
    words += [version, *set_words(ttl, expires_at, stale, jitter, token)]

    def part(places: Sequence[int]) -> Call[list[bool]]:
        return cachemset(
            {names[place]: values[names[place]] for place in places},
            version,
            ttl=ttl,
            expires_at=expires_at,
            stale=stale,
            jitter=jitter,
            token=token,
        )

    return Call(words, all_written, names, again=token is not None, split=in_order(part))


def cachedrop(key: Key, *, version: Key | None = None, stale: bool = False) -> Call[int]:
    """Drop the answers of a key, or that of one version, and end its leases (ML.CACHEDROP).

    With `stale` they expire now instead, and may be served stale as long as they say. The
    result is how many. It is not repeated after a lost connection: an answer may have
    come since.
    """
    words: list[Word] = ["ML.CACHEDROP", key]
    if version is not None:
        words += ["VERSION", version]
    if stale:
        words.append("STALE")
    return Call(words, as_it_is, (key,))


def cachefetch(
    key: Key,
    version: Key,
    lease: Seconds,
    *,
    wait: Seconds | None = None,
    early: float | None = None,
    token: str | None = None,
) -> Call[Fetch]:
    """Read an answer; of all that miss it, one is told to compute it (ML.CACHEFETCH).

    `lease` is how many seconds this caller has, should it be the one; `wait`, how many to
    wait for the answer of another rather than be told BUSY. With `early`, β, one caller
    computes anew before the expiry, at random; 1 is a good value. `token` is the caller's
    own, else a new one. It may be repeated after a lost connection.
    """
    words: list[Word] = ["ML.CACHEFETCH", key, version, "LEASE", milliseconds("lease", lease)]
    if wait is not None:
        words += ["WAIT", milliseconds("wait", wait)]
    if early is not None:
        words += ["EARLY", *window_words(early)]
    words += ["TOKEN", token or new_id()]
    waiting = 0 if wait is None else in_seconds(wait)
    return Call(words, fetch_of, (key,), again=True, wait=waiting)


def cachemfetch(
    keys: Iterable[Key], version: Key, lease: Seconds, *, token: str | None = None
) -> Call[list[Fetch]]:
    """`cachefetch` of several keys, which never waits (ML.CACHEMFETCH), in order.

    All that is leased is leased under one token. It may be repeated after a lost
    connection.
    """
    names = listed("keys", keys)
    under = token or new_id()
    words: list[Word] = ["ML.CACHEMFETCH", len(names), *names, version]
    words += ["LEASE", milliseconds("lease", lease), "TOKEN", under]

    def part(places: Sequence[int]) -> Call[list[Fetch]]:
        return cachemfetch(chosen(names, places), version, lease, token=under)

    return Call(words, fetches_of, names, again=True, split=in_order(part))


def cacherenew(key: Key, token: str, lease: Seconds) -> Call[bool]:
    """Have the time of a lease start anew: it ends `lease` seconds from now (ML.CACHERENEW).

    False where the token is no longer the holder's: the work may be given up. It may be
    repeated.
    """
    words = ["ML.CACHERENEW", key, token, milliseconds("lease", lease)]
    return Call(words, flag_of, (key,), again=True)


def cacherelease(key: Key, token: str, *, backoff: Seconds | None = None) -> Call[bool]:
    """Give a lease up without an answer; the next caller has it (ML.CACHERELEASE).

    With `backoff`, seconds, nobody has one for that long. False where the token is not
    the holder's; repeated after a lost connection it is False as well.
    """
    words: list[Word] = ["ML.CACHERELEASE", key, token]
    if backoff is not None:
        words += ["BACKOFF", milliseconds("backoff", backoff)]
    return Call(words, flag_of, (key,), again=True)


def cacheversion(namespace: Key) -> Call[list[bytes]]:
    """The versions in force in a namespace (ML.CACHEVERSION); of a cluster, any node's.

    Empty where none were set: then another namespace decides, or all are in force.
    """
    return Call(["ML.CACHEVERSION", namespace], as_it_is, again=True)


def cacheversionset(namespace: Key, versions: Iterable[Key] | None) -> Call[None]:
    """Put versions in force in a namespace, in place of those before (ML.CACHEVERSIONSET).

    All others are misses from then on, and cannot be set. None clears it: the namespace
    decides nothing. In a cluster each primary is told. It may be repeated.
    """
    words: list[Word] = ["ML.CACHEVERSIONSET", namespace]
    words += ["CLEAR"] if versions is None else listed("versions", versions)
    return Call(words, nothing, again=True, everywhere=True)


def nothing(answer: Any) -> None:
    """An answer that says nothing."""


def cacheinfo(key: Key) -> Call[CacheInfo | None]:
    """What a key of the cache holds, or None (ML.CACHEINFO). It may be repeated."""

    def version_of(answer: Any) -> CachedVersion:
        found = named(answer)
        times = [found[name] / 1000 for name in ("ttl_ms", "stale_ms", "age_ms", "cost_ms")]
        return CachedVersion(found["version"], found["bytes"], *times)

    def read(answer: Any) -> CacheInfo | None:
        if answer is None:
            return None
        found = named(answer)
        versions = [version_of(version) for version in found["versions"]]
        return CacheInfo(found["lease_ms"] / 1000, found["waiters"], versions)

    return Call(["ML.CACHEINFO", key], read, (key,), again=True)


Section: TypeAlias = Literal["limits", "cache", "features"]


def stats(
    section: Section | None = None, *, namespace: Key | None = None, reset: bool = False
) -> Call[dict[str, dict[bytes, dict[str, Any]]]]:
    """What a node has counted, by section and namespace (ML.STATS).

    Of all sections or of one, of all namespaces or of one; `reset` sets what was told to
    0. `most_denied` is a list of (key, count); `versions` is a map of namespaces, each a
    map of its versions. In a cluster it is a node's own: ask each of `client.nodes()`.
    """
    words: list[Word] = ["ML.STATS"]
    if section is not None:
        words.append(section.upper())
    if namespace is not None:
        words += ["NAMESPACE", namespace]
    if reset:
        words.append("RESET")

    def counts_of(answer: Any) -> dict[str, Any]:
        counts = named(answer)
        if "most_denied" in counts:
            counts["most_denied"] = [(key, count) for key, count in counts["most_denied"]]
        if "versions" in counts:
            counts["versions"] = {
                space: {version: named(of) for version, of in pairs_of(versions).items()}
                for space, versions in pairs_of(counts["versions"]).items()
            }
        return counts

    def read(answer: Any) -> dict[str, dict[bytes, dict[str, Any]]]:
        return {
            name: {space: counts_of(counts) for space, counts in pairs_of(spaces).items()}
            for name, spaces in named(answer).items()
        }

    return Call(words, read, again=not reset)


# --- features -----------------------------------------------------------------


def features_of(key: Key, fields: Iterable[Key]) -> Call[list[Value]]:
    """The values of some fields of an entity, in order, None for a missing one (ML.FEATURES).

    Of a hash the stored bytes; of a row numbers, by RESP2 bytes. It may be repeated.
    """
    return Call(["ML.FEATURES", key, *listed("fields", fields)], as_it_is, (key,), again=True)


def featureset(
    key: Key,
    values: Mapping[Key, Word],
    *,
    view: Key | None = None,
    at: Moment | None = None,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    type: Type | Mapping[Key, Type] | None = None,  # noqa: A002
    replace: bool = False,
) -> Call[bool]:
    """Write fields of a row, beside those that it holds (ML.FEATURESET).

    `at` is the event time, default now; `type` what the values are, or a type for each
    field; `replace` has the view hold exactly these. False where the view holds something
    newer. It may be repeated.
    """
    if not values:
        raise ValueError("values must not be empty")
    words: list[Word] = ["ML.FEATURESET", key]
    words += written_words(view, at, ttl, expires_at, replace)
    if isinstance(type, str):
        words += ["TYPE", type]
    elif type is not None:
        words += ["TYPES", len(values), *(type.get(field, "AUTO") for field in values)]
    words += ["FIELDS", len(values)]
    for field, value in values.items():
        words += [field, value]
    return Call(words, flag_of, (key,), again=True)


def written_words(
    view: Key | None,
    at: Moment | None,
    ttl: Seconds | None,
    expires_at: Moment | None,
    replace: bool,
) -> list[Word]:
    """What featureset and featuremset have in common."""
    words: list[Word] = []
    if view is not None:
        words += ["VIEW", view]
    if at is not None:
        words += ["AT", moment("at", at)]
    words += expiry_words(ttl, expires_at)
    if replace:
        words.append("REPLACE")
    return words


def featuremset(
    keys: Iterable[Key],
    fields: Iterable[Key],
    values: Any,
    *,
    type: TensorType = "f4",  # noqa: A002
    view: Key | None = None,
    at: Moment | None = None,
    times: Any = None,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    replace: bool = False,
) -> Call[list[bool]]:
    """The same fields of several rows from one buffer (ML.FEATUREMSET).

    `values` is an array of keys × fields, or its bytes: little-endian numbers of `type`,
    row by row. `times` is an event time for each key: a numpy array of datetime64 or of
    milliseconds since 1970, or its bytes as 64-bit little-endian integers. The result
    says for each key whether it was written. It may be repeated.
    """
    names, columns = listed("keys", keys), listed("fields", fields)
    blob = blob_of("values", values, f"<{type}", (len(names), len(columns)))
    moments = (
        None if times is None else blob_of("times", in_milliseconds(times), "<i8", (len(names),))
    )
    words: list[Word] = ["ML.FEATUREMSET", len(names), *names, blob]
    words += ["TYPE", TENSOR_TYPES[type], "FIELDS", len(columns), *columns]
    words += written_words(view, at, ttl, expires_at, replace)
    if moments is not None:
        words += ["TIMES", moments]

    def part(places: Sequence[int]) -> Call[list[bool]]:
        return featuremset(
            chosen(names, places),
            columns,
            rows_of(blob, len(names), places),
            type=type,
            view=view,
            at=at,
            times=None if moments is None else rows_of(moments, len(names), places),
            ttl=ttl,
            expires_at=expires_at,
            replace=replace,
        )

    return Call(words, flags_of, names, again=True, split=in_order(part))


def blob_of(name: str, values: Any, dtype: str, shape: tuple[int, ...]) -> bytes:
    """An array as the bytes that are sent; bytes as they are."""
    if isinstance(values, (bytes, bytearray, memoryview)):
        return bytes(values)
    import numpy

    array = numpy.asarray(values, dtype)
    if array.shape != shape:
        wanted = " × ".join(map(str, shape))
        raise ValueError(f"{name} must be an array of {wanted}, not of {array.shape}")
    return bytes(array.tobytes())


def in_milliseconds(times: Any) -> Any:
    """Moments of numpy as the server counts them; anything else as it is."""
    if getattr(getattr(times, "dtype", None), "kind", "") == "M":
        return times.astype("datetime64[ms]").astype("<i8")
    return times


def rows_of(blob: bytes, count: int, places: Sequence[int]) -> bytes:
    """Some rows of a buffer of so many."""
    width = len(blob) // count
    return b"".join(blob[place * width : (place + 1) * width] for place in places)


def featuredel(
    key: Key, *, view: Key | None = None, fields: Iterable[Key] | None = None
) -> Call[int]:
    """Remove a view ("" is the default one) or fields of a row (ML.FEATUREDEL).

    The result is how many fields went. It may be repeated, and counts none then.
    """
    if (view is None) == (fields is None):
        raise ValueError("either view or fields must be given")
    words: list[Word] = ["ML.FEATUREDEL", key]
    if view is not None:
        words += ["VIEW", view]
    elif fields is not None:
        names = listed("fields", fields)
        words += ["FIELDS", len(names), *names]
    return Call(words, as_it_is, (key,), again=True)


def featureinfo(key: Key) -> Call[FeatureInfo | None]:
    """What a row holds, or None (ML.FEATUREINFO). It may be repeated."""

    def view_of(answer: Any) -> FeatureView:
        found = named(answer)
        fields = {name: text_of(kind) for name, kind in found["fields"]}
        return FeatureView(found["view"], found["at_ms"] / 1000, seconds(found["ttl_ms"]), fields)

    def read(answer: Any) -> FeatureInfo | None:
        if answer is None:
            return None
        found = named(answer)
        return FeatureInfo(found["bytes"], [view_of(view) for view in found["views"]])

    return Call(["ML.FEATUREINFO", key], read, (key,), again=True)


def featuregetall(key: Key, *, view: Key | None = None) -> Call[dict[bytes, Value]]:
    """All fields of an entity, or those of one view by their own names (ML.FEATUREGETALL).

    It may be repeated.
    """
    words: list[Word] = ["ML.FEATUREGETALL", key]
    if view is not None:
        words += ["VIEW", view]
    return Call(words, pairs_of, (key,), again=True)


def asked_words(
    fields: Sequence[Key],
    default: Word | None,
    defaults: Sequence[Word] | None,
    max_age: Seconds | None,
    strict: bool,
) -> list[Word]:
    """What the ways to read features of several entities have in common."""
    words: list[Word] = ["FIELDS", len(fields), *fields]
    if default is not None:
        words += ["DEFAULT", default]
    if defaults is not None:
        words += ["DEFAULTS", len(defaults), *defaults]
    if max_age is not None:
        words += ["MAXAGE", milliseconds("max_age", max_age)]
    if strict:
        words.append("STRICT")
    return words


def featureget(
    keys: Iterable[Key],
    fields: Iterable[Key],
    *,
    default: Word | None = None,
    defaults: Sequence[Word] | None = None,
    max_age: Seconds | None = None,
    strict: bool = False,
) -> Call[list[list[Value]]]:
    """The same fields of several entities (ML.FEATUREGET AS VALUES), a list for each.

    None stands for what is missing or older than `max_age` seconds, or `default`, or the
    field's own of `defaults`; with `strict` it is an error. It may be repeated.
    """
    names, columns = listed("keys", keys), listed("fields", fields)
    words: list[Word] = ["ML.FEATUREGET", len(names), *names]
    words += asked_words(columns, default, defaults, max_age, strict)

    def part(places: Sequence[int]) -> Call[list[list[Value]]]:
        return featureget(
            chosen(names, places),
            columns,
            default=default,
            defaults=defaults,
            max_age=max_age,
            strict=strict,
        )

    return Call(words, as_it_is, names, again=True, split=in_order(part))


def featurejson(
    keys: Iterable[Key],
    fields: Iterable[Key],
    *,
    default: Word | None = None,
    defaults: Sequence[Word] | None = None,
    max_age: Seconds | None = None,
    strict: bool = False,
) -> Call[bytes]:
    """The same as a JSON array with an object for each entity (ML.FEATUREGET AS JSON)."""
    names, columns = listed("keys", keys), listed("fields", fields)
    words: list[Word] = ["ML.FEATUREGET", len(names), *names]
    words += [*asked_words(columns, default, defaults, max_age, strict), "AS", "JSON"]

    def split(groups: Sequence[Sequence[int]]) -> Program[bytes]:
        # An entity a call: so each is one object, whose text is taken as it is.
        del groups
        objects = yield [
            featurejson(
                [name],
                columns,
                default=default,
                defaults=defaults,
                max_age=max_age,
                strict=strict,
            )
            for name in names
        ]
        return b"[" + b",".join(text[1:-1] for text in objects) + b"]"

    return Call(words, as_it_is, names, again=True, split=split)


class Asked:
    """Prepare to read the same fields of any entities: `features(keys)`, a Tensor.

        features = client.features(["price", "stock"], type="f4")
        features(["item:1", "item:2"]).numpy()

    The arguments are those of `featuretensor`. What is the same each time is packed once.
    """

    __slots__ = ("dtype", "fields", "packed", "with_times", "words")

    def __init__(
        self,
        fields: Iterable[Key],
        type: TensorType = "f4",  # noqa: A002
        *,
        default: float | None = None,
        defaults: Sequence[float] | None = None,
        max_age: Seconds | None = None,
        strict: bool = False,
        with_times: bool = False,
    ) -> None:
        """The arguments of `featuretensor`."""
        if type not in TENSOR_TYPES:
            raise ValueError(f"type must be one of {', '.join(TENSOR_TYPES)}: {type!r}")
        self.fields = listed("fields", fields)
        self.dtype = f"<{type}"
        self.with_times = with_times
        self.words = asked_words(self.fields, default, defaults, max_age, strict)
        self.words += ["AS", "TENSOR", "TYPE", TENSOR_TYPES[type]]
        if with_times:
            self.words.append("WITHTIMES")
        self.packed = b"".join(map(bulk, self.words))

    def of(self, keys: Iterable[Key]) -> Call[Tensor]:
        """The call for these entities, packed already."""
        names = listed("keys", keys)
        count = 2 + len(names) + len(self.words)
        head = b"*%d\r\n$13\r\nML.FEATUREGET\r\n" % count
        packed = b"".join([head, bulk(len(names)), *map(bulk, names), self.packed])

        def read(answer: list[Any]) -> Tensor:
            times = answer[5] if self.with_times else None
            return Tensor(names, self.fields, self.dtype, answer[3], answer[4], times)

        def split(groups: Sequence[Sequence[int]]) -> Program[Tensor]:
            parts: list[Tensor] = yield [self.of(chosen(names, group)) for group in groups]
            return self.merged(names, groups, parts)

        return Call(packed, read, names, again=True, split=split)

    def merged(
        self, names: Sequence[Key], groups: Sequence[Sequence[int]], parts: Sequence[Tensor]
    ) -> Tensor:
        """One tensor of those of several slots, its rows in order."""

        def rows(buffers: Sequence[bytes]) -> bytes:
            found: list[bytes] = [b""] * len(names)
            for group, buffer in zip(groups, buffers, strict=True):
                for row, place in enumerate(group):
                    found[place] = rows_of(buffer, len(group), [row])
            return b"".join(found)

        data = rows([part.data for part in parts])
        status = rows([part.status for part in parts])
        times = rows([cast("bytes", part.times) for part in parts]) if self.with_times else None
        return Tensor(names, self.fields, self.dtype, data, status, times)


def bulk(word: Word) -> bytes:
    """A word as RESP has it."""
    text = word if isinstance(word, bytes) else str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


def featuretensor(
    keys: Iterable[Key],
    fields: Iterable[Key],
    type: TensorType = "f4",  # noqa: A002
    *,
    default: float | None = None,
    defaults: Sequence[float] | None = None,
    max_age: Seconds | None = None,
    strict: bool = False,
    with_times: bool = False,
) -> Call[Tensor]:
    """The same fields of several entities as one buffer of numbers (ML.FEATUREGET AS TENSOR).

    `type` is f4, f8 or i8. NaN stands for what is missing, older than `max_age` seconds,
    or no number; or `default`, or the field's own of `defaults`; with `strict` it is an
    error. `with_times` brings the event times. `client.features(fields)` packs what is
    the same for each call once. It may be repeated.
    """
    return Asked(
        fields,
        type,
        default=default,
        defaults=defaults,
        max_age=max_age,
        strict=strict,
        with_times=with_times,
    ).of(keys)
