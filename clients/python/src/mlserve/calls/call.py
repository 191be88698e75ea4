"""A call, and what the descriptions of commands are made of: arguments, answers, slots."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from decimal import Decimal

    from mlserve.results import FieldList, Key

T = TypeVar("T")

Word: TypeAlias = str | bytes | int | float
"""What the libraries send as it is."""
Seconds: TypeAlias = float | datetime.timedelta
Moment: TypeAlias = float | datetime.datetime
Program: TypeAlias = Generator["Sequence[Call[Any]]", "list[Any]", T]
"""Calls that are to be run at once, a batch after the other, until it returns the result;
the first error of a batch is thrown into it."""
Split: TypeAlias = Callable[["Sequence[Sequence[int]]"], "Program[T]"]
"""What to run in a cluster, by the places of the keys that share a slot."""


class Call(Generic[T]):
    """A call of a command, ready to be sent.

    - `words` as `execute_command` takes them; or bytes, when they are packed already.
    - `read` makes the result of the answer.
    - `keys` that it touches; those of one call share a slot in a cluster.
    - `again`: whether it may be repeated after a lost connection.
    - `wait`: how many seconds it may wait in the server.
    - `split`: what to run instead in a cluster, where its keys are in several slots.
    - `everywhere`: each node of a cluster is asked; the answer is that of the last.
    - `fields`: the list of fields that it names, which must be the server's, too.
    """

    __slots__ = ("again", "everywhere", "fields", "keys", "read", "split", "wait", "words")

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
        fields: FieldList | None = None,
    ) -> None:
        """What is sent, and what is made of the answer."""
        self.words = words
        self.read = read
        self.keys = keys
        self.again = again
        self.wait = wait
        self.split = split
        self.everywhere = everywhere
        self.fields = fields

    @property
    def name(self) -> str:
        """The command."""
        if isinstance(self.words, bytes):
            return self.words.split(b"\r\n", 3)[2].decode()
        return str(self.words[0])

    def __repr__(self) -> str:
        return f"<Call of {self.name}>"


# --- arguments ----------------------------------------------------------------


def new_id() -> str:
    """A new id of a hold, or token of a lease: 128 random bits in hexadecimal."""
    return os.urandom(16).hex()


def milliseconds(name: str, value: Seconds, *, above_0: bool = False) -> int:
    """Seconds as the server counts them; what is not 0 is 1 at least."""
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    try:
        fits = 0 <= value <= 1e11 and not (above_0 and value == 0)
    except TypeError:
        raise TypeError(f"{name} must be seconds or a timedelta: {value!r}") from None
    if not fits:
        least = "above 0" if above_0 else "not negative"
        raise ValueError(f"{name} must be seconds, {least}: {value!r}")
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


def word_of(name: str, value: Any) -> Word:
    """A value that is sent as it reads; numbers of numpy and enums as the plain ones they are.

    The repr of numpy's float64 and of an IntEnum, which are float and int, is no number.
    """
    if type(value) in (str, bytes, int, float):
        return cast("Word", value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (str, bytes, memoryview)):
        return cast("Word", value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else float(value)
    raise TypeError(f"{name} must be str, bytes, int or float: {value!r}")


def bulk(word: Word, name: str = "a key or field") -> bytes:
    """A word as RESP has it; `name` is what an error calls it."""
    if not isinstance(word, (bytes, str)):
        value: Any = bytes(word) if isinstance(word, bytearray) else word_of(name, word)
        word = bytes(value) if isinstance(value, (bytes, memoryview)) else str(value)
    text = word if isinstance(word, bytes) else word.encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


def decimals(value: float | Decimal) -> str:
    """A number with up to 6 decimals."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def listed(name: str, values: Iterable[T]) -> list[T]:
    """Several values; one by itself is a mistake, as str and bytes are, which are several too."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of them, not {values!r} alone")
    found = list(values)
    if not found:
        raise ValueError(f"{name} must not be empty")
    return found


def check_mapping(name: str, values: object) -> None:
    """Whether it is a dict, and not an empty one."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{name} must be a dict: {values!r}")
    if not values:
        raise ValueError(f"{name} must not be empty")


def expiry_words(ttl: Seconds | None, expires_at: Moment | None) -> list[Word]:
    """When something expires: in so many seconds, or at a moment."""
    if ttl is not None and expires_at is not None:
        raise ValueError("ttl and expires_at exclude each other")
    if ttl is not None:
        return ["PX", milliseconds("ttl", ttl, above_0=True)]
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


def nothing(answer: Any) -> None:
    """An answer that says nothing."""


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
    return Call([word_of("a word", word) for word in words], as_it_is, tuple(keys), again=again)
