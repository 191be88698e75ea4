"""Columns of values in protobuf's wire format, made without an object for each value.

Feast answers `GetOnlineFeaturesResponse`: for each feature a `FeatureVector` with a Value,
a status and a Timestamp for each entity. To make these as Python objects is most of the
time that a read takes. Here numpy writes their bytes, column by column, which protobuf's
own library parses in one go. Follows https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from mlserve.feast._values import Kind, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

Vector = GetOnlineFeaturesResponse.FeatureVector

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
LONGEST = 10
"""Bytes of a varint."""


def varint(number: int) -> bytes:
    """An unsigned integer, seven bits a byte."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(message: Any, field: str, wire: int) -> bytes:
    """What stands before a field."""
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | wire)


VALUES = tag(Vector, "values", LENGTH)
STATUSES = tag(Vector, "statuses", LENGTH)
TIMES = tag(Vector, "event_timestamps", LENGTH)
RESULTS = tag(GetOnlineFeaturesResponse, "results", LENGTH)
SECONDS, NANOS = tag(Timestamp, "seconds", VARINT), tag(Timestamp, "nanos", VARINT)
NULL = VALUES + b"\0"
WIRES = {"float_val": FIXED32, "double_val": FIXED64, "string_val": LENGTH, "bytes_val": LENGTH}


class Piece:
    """A field of each of several messages: its tag, and bytes of which the first so many count."""

    def __init__(
        self, tag: bytes, data: NDArray[np.uint8], lengths: NDArray[np.int64] | None = None
    ) -> None:
        """A row of bytes for each message; all of them count where there are no lengths."""
        self.tag = np.frombuffer(tag, np.uint8)
        self.data = data
        self.lengths = lengths

    @classmethod
    def of_integers(cls, tag: bytes, numbers: NDArray[np.int64]) -> Piece:
        """A varint for each message; a negative number is its two's complement."""
        places = np.arange(LONGEST)
        shifts = (places * 7).astype(np.uint64)
        groups = ((numbers.astype(np.uint64)[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
        lengths = ((groups != 0) * places).max(axis=1, initial=0) + 1
        groups[places < (lengths - 1)[:, None]] |= 0x80
        return cls(tag, groups, lengths)


def messages(
    before: bytes, pieces: Sequence[Piece], full: NDArray[np.bool_]
) -> tuple[bytes, NDArray[np.int64]]:
    """Length-delimited messages, one for each row, and how long each is.

    They are empty where `full` is false. No message may be longer than 127 bytes.
    """
    count, head = len(full), len(before) + 1
    width = head + sum(len(piece.tag) + piece.data.shape[1] for piece in pieces)
    out = np.empty((count, width), np.uint8)
    counts = np.empty((count, width), np.bool_)
    out[:, : len(before)] = np.frombuffer(before, np.uint8)
    counts[:, :head] = True
    counts[:, head:] = full[:, None]
    place = head
    for piece in pieces:
        begin = place + len(piece.tag)
        end = begin + piece.data.shape[1]
        out[:, place:begin] = piece.tag
        out[:, begin:end] = piece.data
        if piece.lengths is not None:
            counts[:, begin:end] &= np.arange(end - begin) < piece.lengths[:, None]
        place = end
    sizes = counts.sum(axis=1)
    out[:, head - 1] = sizes - head
    return out[counts].tobytes(), sizes


def columns_of_numbers(
    kind: Kind, numbers: NDArray[Any], present: NDArray[np.bool_]
) -> list[bytes]:
    """The Values of each column of an array, n × m; nulls where none is present."""
    member = str(kind.member)
    rows, columns = numbers.shape
    flat, full = numbers.T.ravel(), present.T.ravel()
    before = tag(Value, member, WIRES.get(member, VARINT))
    if kind.read == "i8":
        piece = Piece.of_integers(before, flat)
    else:
        size = 4 if kind.type == "F32" else 8
        # What is too large for a single, or absent, is not looked at.
        with np.errstate(over="ignore", invalid="ignore"):
            data = flat.astype(f"<f{size}")
        piece = Piece(before, data.view(np.uint8).reshape(-1, size))
    written, sizes = messages(VALUES, [piece], full)
    ends = np.cumsum(sizes.reshape(columns, rows).sum(axis=1)).tolist()
    return [written[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def column_of_texts(kind: Kind, values: Iterable[Any]) -> bytes:
    """The Values of a column that is read as text."""
    before = b"" if kind.member is None else tag(Value, kind.member, LENGTH)
    out = []
    for text in texts_of(kind, values):
        if text is None:
            out.append(NULL)
            continue
        if before:
            text = b"%b%b%b" % (before, varint(len(text)), text)
        out.append(b"%b%b%b" % (VALUES, varint(len(text)), text))
    return b"".join(out)


def column_of_times(times: NDArray[np.int64]) -> bytes:
    """The Timestamps of a column, of milliseconds since 1970; empty where it is negative."""
    seconds = Piece.of_integers(SECONDS, times // 1000)
    nanos = Piece.of_integers(NANOS, times % 1000 * 1_000_000)
    return messages(TIMES, [seconds, nanos], times >= 0)[0]


def vectors(
    values: Sequence[bytes], found: NDArray[np.bool_], times: NDArray[np.int64]
) -> list[bytes]:
    """A FeatureVector for each column: its Values, whether each was found, and the times."""
    count = len(times)
    stamps = column_of_times(times)
    statuses = np.where(found.T, FieldStatus.PRESENT, FieldStatus.NOT_FOUND).astype(np.uint8)
    packed, before = statuses.tobytes(), STATUSES + varint(count)
    return [
        b"".join((column, before, packed[place * count : (place + 1) * count], stamps))
        for place, column in enumerate(values)
    ]


def result(vector: bytes) -> bytes:
    """A FeatureVector as one of the results of a response."""
    return b"%b%b%b" % (RESULTS, varint(len(vector)), vector)
