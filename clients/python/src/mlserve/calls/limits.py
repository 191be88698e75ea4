"""What can be asked of limits: ML.RATELIMIT, ML.ADMIT, and what is held."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mlserve.calls.call import (
    Call,
    Moment,
    Program,
    Seconds,
    Word,
    chosen,
    decimals,
    flags_of,
    in_order,
    in_seconds,
    listed,
    milliseconds,
    moment,
    named,
    new_id,
    text_of,
)
from mlserve.errors import Error
from mlserve.results import Admission, Hold, Key, LimitInfo, RateLimit, Window, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Algorithm: TypeAlias = Literal["FIXED", "SLIDING", "GCRA"]


class Until:
    """A window that closes at a moment: seconds since 1970, or a datetime with a zone.

    Or a function that says when the next one closes, which each call asks.
    """

    __slots__ = ("_moment",)

    def __init__(self, moment_: Moment | Callable[[], Moment]) -> None:
        """The moment at which it closes."""
        self._moment = moment_ if callable(moment_) else moment("until", moment_) / 1000

    @property
    def milliseconds(self) -> int:
        """The moment, as the server counts it."""
        found = self._moment
        return moment("until", found() if callable(found) else found)

    def __repr__(self) -> str:
        return f"Until({self._moment})"


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
    return (decimals(window),)


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
        words += ["HOLD", milliseconds("hold", hold, above_0=True), "ID", id or new_id()]
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
    if not isinstance(items, Mapping) or not all(
        isinstance(item, (Limit, Permit)) for item in items.values()
    ):
        raise TypeError(f"items must be a dict of keys, each with a Limit or a Permit: {items!r}")
    keys = list(items)
    if not keys:
        raise ValueError("items must not be empty")
    if hold is not None and not peek:
        id = id or new_id()  # noqa: A001
    words: list[Word] = ["ML.ADMIT", len(keys), *keys]
    for item in items.values():
        words += item.words
    if hold is not None:
        words += ["HOLD", milliseconds("hold", hold, above_0=True)]
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
        actual = listed("actual", actual)
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
    words: list[Word] = [
        "ML.RENEW",
        len(names),
        *names,
        id,
        milliseconds("hold", hold, above_0=True),
    ]

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
