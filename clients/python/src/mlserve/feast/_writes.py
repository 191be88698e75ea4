"""Writes of rows of a feature view."""

from __future__ import annotations

import datetime
import math
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from mlserve import calls
from mlserve.feast._keys import key_of
from mlserve.feast._reads import EPOCH, view_of
from mlserve.feast._values import SERIALIZED, kinds_of, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlserve.calls import Call, Word
    from mlserve.calls.features import Type
    from mlserve.results import Key

Row: TypeAlias = "tuple[Any, dict[str, Any], datetime.datetime, datetime.datetime | None]"
"""As Feast has it: the entity, its Values, the event time, when it was created."""

BATCH = 100
"""Rows that are written in one go."""

LAST = 253_402_300_799
"""The last moment of expiry in seconds: the end of the year 9999."""


def batches(config: Any, table: Any, data: Sequence[Row]) -> Iterator[list[Call[bool]]]:
    """The calls that write the rows, so many at once; all of them are made before the first."""
    several = list(writes(config, table, data))
    for begin in range(0, len(several), BATCH):
        yield several[begin : begin + BATCH]


def microseconds(moment: datetime.datetime) -> int:
    """Since 1970; a moment without a time zone is in UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


def writes(config: Any, table: Any, data: Sequence[Row]) -> Iterator[Call[bool]]:
    """A call for each row."""
    view, kinds = view_of(config, table), kinds_of(table)
    # The server counts milliseconds: within one, the order decides which stays.
    timed = [
        (microseconds(at), microseconds(created) if created else 0, entity, values)
        for entity, values, at, created in data
    ]
    timed.sort(key=lambda row: row[:2])
    for at, _, entity, values in timed:
        at_ms = at // 1000
        if at_ms != 0 and at_ms <= 10**11:
            raise ValueError(
                f"feature view {view}: an event time must be 1970-01-01, or after 1973-03-03: "
                f"{EPOCH + datetime.timedelta(microseconds=at)}"
            )
        words: dict[Key, Word] = {}
        types: dict[Key, Type] = {}
        for name, value in values.items():
            try:
                types[name], words[name] = written(kinds.get(name, SERIALIZED), value)
            except ValueError as error:
                raise ValueError(f"feature {name} of feature view {view}: {error}") from error
        yield calls.featureset(
            key_of(config, entity),
            words,
            view=view,
            at=at_ms / 1000,
            type=types,
            replace=values.keys() >= kinds.keys(),
            **expiry(config, table, at_ms),
        )


def expiry(config: Any, table: Any, at_ms: int) -> dict[str, float]:
    """When a view of a row expires, as featureset takes it."""
    settings = config.online_store
    limit = settings.key_ttl_seconds or math.inf
    # Views that Feast computes on demand have none.
    ttl = getattr(table, "ttl", None)
    lasts = ttl.total_seconds() if ttl else math.inf
    if settings.ttl_from == "event_time" and lasts < math.inf:
        return {"expires_at": min(at_ms / 1000 + lasts, time.time() + limit, LAST)}
    lasts = min(lasts, limit)
    return {"ttl": lasts} if lasts < LAST - time.time() else {}
