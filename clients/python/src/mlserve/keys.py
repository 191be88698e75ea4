"""Keys made of arguments, so that different arguments never have the same one.

Each value is written with its type and its length, and the whole is hashed by XXH3 (128
bits). 1, 1.0, True, "1" and b"1" differ; so do ("x:y", "z") and ("x", "y:z"). The order of
dicts and sets does not count, nor the sign of 0.0.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import struct
import unicodedata
import uuid
from typing import Any, Literal, TypeAlias

import xxhash

Form: TypeAlias = Literal["NFC", "NFD", "NFKC", "NFKD"]

__all__ = ["canonical", "digest"]


def digest(value: Any, form: Form | None = None) -> str:
    """The hash of a value, 32 hexadecimal digits.

    Text in two normal forms of Unicode is two texts, unless `form` (NFC, NFKC, NFD, NFKD)
    brings it to one. A value of a type that has no key is a TypeError.
    """
    return xxhash.xxh3_128_hexdigest(canonical(value, form))


def canonical(value: Any, form: Form | None = None) -> bytes:
    """A value as bytes, by its type and its length."""
    kind = type(value)
    if kind is str:
        text = unicodedata.normalize(form, value) if form else value
        return framed(b"s", text.encode("utf-8", "surrogatepass"))
    if kind in (bytes, bytearray, memoryview):
        return framed(b"b", bytes(value))
    if value is None or kind is bool or kind is int:
        return framed(b"i", repr(value).encode())
    if kind is float:
        # One zero, one NaN.
        number = float("nan") if value != value else value + 0.0
        return framed(b"f", struct.pack(">d", number))
    if kind in (list, tuple):
        return many(b"l" if kind is list else b"t", [canonical(one, form) for one in value])
    if kind is dict:
        pairs = [canonical(key, form) + canonical(one, form) for key, one in value.items()]
        return many(b"d", sorted(pairs))
    if kind in (set, frozenset):
        return many(b"S", sorted(canonical(one, form) for one in value))
    return framed(b"o", named(kind) + other(value, form))


def other(value: Any, form: Form | None) -> bytes:
    """A value of a type that is less plain."""
    if isinstance(value, enum.Enum):
        return canonical(value.name)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return canonical([(name, getattr(value, name)) for name in names], form)
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return canonical(str(value))
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return canonical(value.isoformat())
    if isinstance(value, datetime.timedelta):
        return canonical(value // datetime.timedelta(microseconds=1))
    if hasattr(value, "dtype") and hasattr(value, "tobytes") and not value.dtype.hasobject:
        return canonical([value.dtype.str, list(value.shape), value.tobytes()])
    raise TypeError(f"a {type(value).__qualname__} has no key")


def named(kind: type) -> bytes:
    """A type by its name."""
    return canonical(f"{kind.__module__}.{kind.__qualname__}")


def framed(tag: bytes, content: bytes) -> bytes:
    """Bytes with their type and their length."""
    return b"%s%d:%s" % (tag, len(content), content)


def many(tag: bytes, parts: list[bytes]) -> bytes:
    """Several values with their number; each has its own length."""
    return b"%s%d:%s" % (tag, len(parts), b"".join(parts))
