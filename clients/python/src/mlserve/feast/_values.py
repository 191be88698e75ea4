"""How the values of Feast are kept in a row: the one place that knows.

Numbers, strings and bytes are values of the row, by the type that the feature is declared
with; all else (lists, sets, maps, embeddings, decimals …) is text: a serialized
`feast.types.Value`. A null, which is not what is missing, is what no other value of that
field can be: an empty text where there are numbers or serialized values, the number 0
where there is text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from feast.value_type import ValueType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlserve.calls import Word
    from mlserve.calls.features import Type

How = Literal["f8", "i8", "text"]


class Kind(NamedTuple):
    """How a feature is kept."""

    member: str | None
    """Of `feast.types.Value`; None: serialized, whatever it is."""
    type: Type
    """Of the field."""
    read: How
    """By which tensor it is read exactly, or as text."""


SERIALIZED = Kind(None, "STRING", "text")
FLOAT, DOUBLE = Kind("float_val", "F32", "f8"), Kind("double_val", "F64", "f8")
STRING, BYTES = Kind("string_val", "STRING", "text"), Kind("bytes_val", "STRING", "text")

KINDS = {
    ValueType.FLOAT: FLOAT,
    ValueType.DOUBLE: DOUBLE,
    ValueType.INT32: Kind("int32_val", "I64", "i8"),
    ValueType.INT64: Kind("int64_val", "I64", "i8"),
    ValueType.BOOL: Kind("bool_val", "I64", "i8"),
    ValueType.UNIX_TIMESTAMP: Kind("unix_timestamp_val", "I64", "i8"),
    ValueType.STRING: STRING,
    ValueType.BYTES: BYTES,
}


ANOTHER_TYPE = (
    "a value is not of the type that its feature is declared with; was it written under another?"
)


def kinds_of(table: Any) -> dict[str, Kind]:
    """The kinds of the features of a view, by name."""
    return {
        field.name: KINDS.get(field.dtype.to_value_type(), SERIALIZED) for field in table.features
    }


def written(kind: Kind, value: Any) -> tuple[Type, Word]:
    """The type and the word that a value is written with; raises ValueError for another's."""
    member = value.WhichOneof("val")
    if member in (None, "null_val"):
        return ("I64", 0) if kind in (STRING, BYTES) else ("STRING", b"")
    if kind is SERIALIZED:
        return kind.type, value.SerializeToString()
    if member != kind.member:
        raise ValueError(f"declared as {kind.member}, but the value is {member}")
    word = getattr(value, member)
    return kind.type, int(word) if member == "bool_val" else word


def texts_of(kind: Kind, values: Iterable[Any]) -> Iterable[bytes | None]:
    """Read text of a kind: None for a null and for what is missing.

    Raises ValueError for what has been written as another.
    """
    null = b"" if kind is SERIALIZED else 0
    for value in values:
        if value is None or (type(value) is type(null) and value == null):
            yield None
        elif isinstance(value, bytes):
            yield value
        else:
            raise ValueError(ANOTHER_TYPE)
