"""What calls answer. Times are seconds, and what the server keeps as bytes stays bytes."""

from __future__ import annotations

import enum
import math
import re
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt
    import pandas
    import pyarrow

    from mlserve.errors import ResponseError

T = TypeVar("T")

__all__ = [
    "Admission",
    "CacheInfo",
    "CachedVersion",
    "FeatureInfo",
    "FeatureView",
    "Fetch",
    "FieldStatus",
    "Hold",
    "LimitInfo",
    "NearAnswer",
    "NearAnswers",
    "NearFetch",
    "Outcome",
    "RateLimit",
    "SemanticInfo",
    "Status",
    "Tensor",
    "Window",
]

Key = str | bytes
Value = bytes | int | float | list[Any] | None
"""Of a feature: text is bytes; numbers of rows are numbers (by RESP2 all is bytes); a vector
is bytes, a sequence a list."""


class RateLimit(NamedTuple):
    """A decision about one limit; true where the call was granted."""

    granted: int
    """The cost charged: all of it, 0 when denied, between the two with `partial`."""
    limit: int
    """Of the window that binds, as are those that follow."""
    remaining: int
    """What could be taken right after the call; below 0 only with `force`."""
    retry_after: float
    """Seconds until the same call is granted in full; 0 when it was, inf: never."""
    reset_after: float
    """Seconds until the window is back at full."""
    id: str | None = None
    """Of the hold, where one was asked for and opened. A capability: keep it secret."""

    def __bool__(self) -> bool:
        """Whether anything was granted, or the cost was 0."""
        return self.granted > 0 or self.retry_after == 0


class Admission(NamedTuple):
    """A decision about several limits and permits; true where the call was let in."""

    admitted: bool
    id: str | None
    """Of the hold; None without one, and when denied. A capability: keep it secret."""
    retry_after: float
    """Seconds until the same call is let in; 0 when it was, inf: never."""
    binding: Key | None
    """The key with the longest wait; None when admitted."""
    rows: dict[Key, RateLimit]
    """The decision at each key; of a permit `limit` is its maximum."""

    def __bool__(self) -> bool:
        """Whether the call was let in."""
        return self.admitted


class Outcome(Generic[T]):
    """What came of a request in one call (ML.SERVE); true where it was let in."""

    __slots__ = ("_features", "admission", "error", "fetch")

    def __init__(
        self,
        admission: Admission | None,
        fetch: Fetch | None,
        features: T | None,
        error: ResponseError | None,
    ) -> None:
        """The answers of the parts, or the error that stands in place of the features."""
        self.admission = admission
        """None where it was not asked for, or the answer was free."""
        self.fetch = fetch
        """None where it was not asked for, or the request was denied."""
        self._features = features
        self.error = error
        """Why the features are not there that were wanted; what was taken before is taken."""

    @property
    def features(self) -> T | None:
        """None where they were not asked for, or nothing is to be computed; raises their error."""
        if self.error is not None:
            raise self.error
        return self._features

    def __bool__(self) -> bool:
        """Whether the request was let in."""
        return self.admission is None or self.admission.admitted

    def __repr__(self) -> str:
        return f"<Outcome {self.admission} {self.fetch!r} {self.error or self._features!r}>"


class Hold(NamedTuple):
    """A hold that is open."""

    id: str
    """Its first 8 digits."""
    cost: int
    ttl: float
    """Seconds that it has left."""


class Window(NamedTuple):
    """A window of a limit."""

    window: float | str
    """Its length in seconds, or DAY, WEEK, MONTH, UNTIL."""
    limit: int
    burst: int | None
    """What a full bucket holds; None where it is none."""
    used: int
    remaining: int
    reset_after: float


class LimitInfo(NamedTuple):
    """What a key of a limit or of permits holds."""

    algorithm: str | None
    """FIXED, SLIDING or GCRA; None of permits."""
    windows: list[Window]
    """Empty of permits."""
    in_use: int | None
    """The cost of all permits that are open; None of a limit."""
    holds: list[Hold]
    """Those that end first come first."""
    waiters: int
    """How many callers are held up at the key."""


class Status(str, enum.Enum):
    """What became of a fetch."""

    HIT = "HIT"
    """The value is the answer."""
    LEASE = "LEASE"
    """Compute it, then call cacheset with the token, or cacherelease."""
    STALE = "STALE"
    """Another caller computes; the value is the stale answer."""
    BUSY = "BUSY"
    """Another caller computes, or nobody may, and there is nothing to serve."""
    RETIRED = "RETIRED"
    """The version is not in force: take the new model."""


class Fetch(NamedTuple):
    """What a fetch answers."""

    status: Status
    value: bytes | None
    """The answer; with LEASE the stale or early one to serve meanwhile, if there is one."""
    token: str | None
    """Of the lease."""
    lasts: float
    """Seconds: HIT, its time to live; LEASE, the lease; STALE, how long it may be served
    still; BUSY, what is left of another's lease or of the backoff."""


class CachedVersion(NamedTuple):
    """An answer that can be served."""

    version: bytes
    bytes: int
    ttl: float
    """Seconds; 0: it is stale."""
    stale: float
    """Seconds that it may be served stale past that."""
    age: float
    cost: float
    """Seconds that computing it took, from the lease to the set; 0: unknown."""


class CacheInfo(NamedTuple):
    """What a key of the cache holds."""

    lease: float
    """Seconds that the longest lease has left; 0: there is none."""
    waiters: int
    versions: list[CachedVersion]
    """The one written last comes first."""


class NearAnswer(NamedTuple):
    """An answer to a question near the one that was asked."""

    id: str
    similarity: float
    """The cosine, within 0.001."""
    value: bytes
    prompt: bytes | None
    """What its own question was, if it was said."""
    age: float
    """Seconds since it was set."""


class NearAnswers(NamedTuple):
    """What was found near a question; true for a hit."""

    status: str
    """HIT, MAYBE, MISS, or RETIRED: the version is not in force."""
    entries: list[NearAnswer]
    """The most similar one comes first."""

    def __bool__(self) -> bool:
        """Whether there is an answer."""
        return self.status == "HIT"


class NearFetch(NamedTuple):
    """What a fetch of the semantic cache answers."""

    status: str
    """HIT; STALE: another computes; MAYBE: the entries are to be judged; LEASE: compute it;
    BUSY: another computes, or nobody may; RETIRED: the version is not in force."""
    entries: list[NearAnswer]
    """The most similar one comes first; with LEASE the stale ones to serve meanwhile."""
    token: str | None
    """Of the lease, with LEASE; with MAYBE too, unless another judges or computes."""
    lasts: float
    """Seconds: HIT, the best one's time to live; LEASE, and MAYBE with a token, the lease;
    STALE, how long the best one may be served still; else what is left of another's lease
    or of the backoff."""

    def __bool__(self) -> bool:
        """Whether there is an answer."""
        return self.status == "HIT"


class SemanticInfo(NamedTuple):
    """What a key of the semantic cache holds, and what it was asked on that node."""

    dim: int
    embedder: bytes | None
    entries: int
    bytes: int
    leases: int
    """That are open now."""
    waiters: int
    """Callers that wait for another's answer now."""
    hits: int
    maybes: int
    misses: int
    saved: float
    """Seconds that computing the answers took that were hits, as far as it is known."""
    histogram: list[int]
    """How often the best was how similar, from -1 on in steps of 0.05."""


class FeatureView(NamedTuple):
    """A view of a row."""

    view: bytes
    at: float
    """The event time, in seconds since 1970."""
    ttl: float
    """Seconds; inf: it never expires."""
    fields: dict[bytes, str]
    """The type of each: F32, F64, I64, STRING; F32[128] of a vector, SEQUENCE[20], WINDOWS
    with their spans and tiles."""


class FeatureInfo(NamedTuple):
    """What a row holds."""

    bytes: int
    """Of memory, without the names of the fields."""
    views: list[FeatureView]


class FieldStatus(enum.IntEnum):
    """What became of a field in a tensor."""

    NOT_A_NUMBER = 0
    PRESENT = 1
    NOT_FOUND = 3
    TOO_OLD = 4
    MISFIT = 5
    """There is something, of another width or form than was asked for."""


class Tensor:
    """The fields of several entities as one buffer: n rows of the numbers of m fields.

    A field is one column, `name[k]` k of them next to each other. `data` are the
    little-endian numbers of `dtype` ("<f4", "<f8" or "<i8"), row by row; `status` n × m
    bytes, one for each field, a FieldStatus; `times`, where they were asked for, n × m
    64-bit event times in milliseconds since 1970, -1 where there is none.
    """

    __slots__ = ("data", "dtype", "fields", "keys", "status", "times", "widths")

    def __init__(
        self,
        keys: Sequence[Key],
        fields: Sequence[Key],
        dtype: str,
        data: bytes,
        status: bytes,
        times: bytes | None = None,
        widths: Sequence[int] | None = None,
    ) -> None:
        """The buffers, with the keys and fields that they are of."""
        self.widths = widths_of(fields) if widths is None else widths
        self.keys = keys
        self.fields = fields
        self.dtype = dtype
        self.data = data
        self.status = status
        self.times = times

    @property
    def shape(self) -> tuple[int, int]:
        """How many entities, and how many columns."""
        return len(self.keys), sum(self.widths)

    def numpy(self) -> npt.NDArray[Any]:
        """The numbers as an array, n × columns, without a copy and so read-only.

        NaN stands for what is missing, where the call had no default.
        """
        import numpy

        return numpy.frombuffer(self.data, self.dtype).reshape(self.shape)

    def column(self, field: Key) -> npt.NDArray[Any]:
        """The numbers of a field, by the name that it was asked for: n, of `name[k]` n × k.

        A view of `numpy()`. KeyError where it was not asked for.
        """
        if field not in self.fields:
            raise KeyError(field)
        return self.columns()[list(self.fields).index(field)]

    def columns(self) -> list[npt.NDArray[Any]]:
        """The numbers of each field, in order: n, of `name[k]` n × k. Views of `numpy()`."""
        numbers, start = self.numpy(), 0
        found = []
        for field, width in zip(self.fields, self.widths, strict=True):
            found.append(numbers[:, start : start + width] if is_wide(field) else numbers[:, start])
            start += width
        return found

    def statuses(self) -> npt.NDArray[np.uint8]:
        """The status of each field, n × m: see FieldStatus. Read-only."""
        import numpy

        return numpy.frombuffer(self.status, numpy.uint8).reshape(-1, len(self.fields))

    def event_times(self) -> npt.NDArray[np.datetime64]:
        """The event time of each field in UTC, n × m datetime64[ms], NaT for none."""
        import numpy

        if self.times is None:
            raise ValueError("event times were not asked for: with_times=True")
        times = numpy.frombuffer(self.times, "<i8").reshape(-1, len(self.fields))
        return numpy.where(times < 0, numpy.datetime64("NaT"), times.astype("datetime64[ms]"))

    def dataframe(self) -> pandas.DataFrame:
        """The numbers as a DataFrame: the keys are its index, the fields its columns.

        Of `name[k]` they are `name[0]` to `name[k-1]`.
        """
        import pandas

        columns: list[str] = []
        for field, text, width in zip(self.fields, texts(self.fields), self.widths, strict=True):
            name = text[: text.rindex("[")] if is_wide(field) else text
            columns += [f"{name}[{at}]" for at in range(width)] if is_wide(field) else [name]
        return pandas.DataFrame(self.numpy(), index=pandas.Index(texts(self.keys)), columns=columns)

    def arrow(self) -> pyarrow.Table:
        """The numbers as a table, a column for each field; what is missing is null.

        `name[k]` is a column of lists of k.
        """
        import pyarrow

        columns = []
        for numbers, status in zip(self.columns(), self.statuses().T, strict=True):
            # A default that was asked for stands, where nothing was found.
            nothing = (numbers != numbers).reshape(len(numbers), -1).all(axis=1)
            columns.append(arrow_of(numbers, (status > FieldStatus.PRESENT) & nothing))
        return pyarrow.table(columns, names=texts(self.fields))

    def __repr__(self) -> str:
        return f"<Tensor of {self.shape[0]} × {self.shape[1]} {self.dtype}>"


def arrow_of(numbers: npt.NDArray[Any], absent: npt.NDArray[np.bool_] | None = None) -> Any:
    """A column of Arrow: of two dimensions one of lists."""
    import pyarrow

    if numbers.ndim == 1:
        return pyarrow.array(numbers.copy(), mask=absent)
    flat = pyarrow.array(numbers.reshape(-1))
    mask = None if absent is None else pyarrow.array(absent)
    return pyarrow.FixedSizeListArray.from_arrays(flat, numbers.shape[1], mask=mask)


WIDTH = re.compile(rb"\[([1-9][0-9]{0,4})\]\Z")
"""What is at the end of the name of a field that is read as several numbers."""


def width_asked(field: Key) -> int | None:
    """How many numbers a field is read as, where its name says so."""
    found = WIDTH.search(field if isinstance(field, bytes) else field.encode())
    width = int(found.group(1)) if found else 0
    return width if 1 <= width <= 65_536 else None


def is_wide(field: Key) -> bool:
    """Whether a field is read as several numbers, be it one of them."""
    return width_asked(field) is not None


class FieldList(list[Key]):
    """The fields that the server knows by a name: `client.fieldlist(name, fields)` tells it.

        profile = FieldList("profile", ["age", "tier", "embedding[128]"])
        client.fieldlist(profile.name, profile)
        client.featuretensor(users, profile)  # says FIELDS @profile

    Taken wherever fields are, but by `features_of` and for values by name. Before a client
    first uses one, it asks the server (ML.FIELDLISTS) what that has by the name: ValueError
    where the fields, or their order, are others than here. A list that is changed later is
    not asked for again: give a changed list another name.
    """

    def __init__(self, name: Key, fields: Iterable[Key]) -> None:
        """The name, 1 to 255 bytes, and the fields in order."""
        from mlserve.calls.call import listed

        super().__init__(listed("fields", fields))
        self.name = name

    def check(self, what: str, found: int, wanted: int) -> None:
        """Raise ValueError where an answer is of another size than the list."""
        if found != wanted:
            raise ValueError(
                f"the FieldList {self.name!r} is another at the server: {found} {what} came where "
                f"it has {wanted}; give a changed list another name"
            )


def widths_of(fields: Sequence[Key]) -> list[int]:
    """How many columns of a tensor each field takes."""
    return [width_asked(field) or 1 for field in fields]


def texts(names: Sequence[Key]) -> list[str]:
    """Names as text, whatever their bytes."""
    return [name if isinstance(name, str) else name.decode(errors="replace") for name in names]


def seconds(milliseconds: int) -> float:
    """Milliseconds of an answer in seconds; -1, never, is inf."""
    return milliseconds / 1000 if milliseconds >= 0 else math.inf
