"""The keys of rows, from entities as Feast has them, or as Python values."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from feast.infra.key_encoding_utils import (
    _serialize_val,
    serialize_entity_key,
    serialize_entity_key_prefix,
)
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

NAMESPACE = "feast"

INT64 = struct.Struct("<IIq")
HEAD = struct.Struct("<II")

NO_KEY = (struct.error, ArithmeticError, AttributeError, AssertionError, TypeError, ValueError)
"""What comes of a value that is not of its join key's type, here and in Feast."""


def is_of_feast(config: Any) -> bool:
    """Whether the online store is Feast's own for Redis."""
    return bool(config.online_store.type == "redis")


def prefix_of(config: Any) -> bytes:
    """What all keys of a project begin with; the names of projects have no colon."""
    return f"{NAMESPACE}:{config.project}:".encode()


def prefix_of_joined(config: Any, names: Iterable[str]) -> bytes:
    """What all keys begin with whose entities have these join keys."""
    version = config.entity_key_serialization_version
    return prefix_of(config) + bytes(serialize_entity_key_prefix(list(names), version))


def key_of(config: Any, entity: Any) -> bytes:
    """The key of an entity."""
    version = config.entity_key_serialization_version
    return prefix_of(config) + bytes(serialize_entity_key(entity, version))


def keys_of(config: Any, columns: Mapping[str, Iterable[Any]]) -> list[bytes]:
    """The keys of entities whose join keys are columns of Values."""
    return joined(config, columns, lambda _, values: [part_of(config, value) for value in values])


def keys_of_python(
    config: Any, columns: Mapping[str, Sequence[Any]], types: Mapping[str, ValueType]
) -> list[bytes]:
    """The keys of entities whose join keys are columns of Python's values."""

    def parts(name: str, values: Sequence[Any]) -> list[bytes]:
        kind = types.get(name, ValueType.UNKNOWN)
        # What nearly all are, past protobuf.
        if kind == ValueType.INT64 and all(type(value) is int for value in values):
            return [INT64.pack(ValueType.INT64.value, 8, value) for value in values]
        protos = python_values_to_proto_values(list(values), kind)
        return [part_of(config, value) for value in protos]

    def checked(name: str, values: Sequence[Any]) -> list[bytes]:
        try:
            return parts(name, values)
        except NO_KEY as error:
            wrong = next((value for value in values if not is_key(name, value)), values)
            raise ValueError(
                f"{wrong!r} cannot be the value of join key {name}: {error}"
            ) from error

    def is_key(name: str, value: Any) -> bool:
        try:
            return bool(parts(name, [value]))
        except NO_KEY:
            return False

    return joined(config, columns, checked)


def joined(
    config: Any, columns: Mapping[str, Any], parts: Callable[[str, Any], list[bytes]]
) -> list[bytes]:
    """Feast's serialization, by columns: the names in order, then the values in that order.

    Keys of Feast's own store end with the project, ours begin with it.
    """
    names = sorted(columns)
    before, after = prefix_of_joined(config, names), b""
    if is_of_feast(config):
        before, after = before.removeprefix(prefix_of(config)), config.project.encode()
    several = [parts(name, columns[name]) for name in names]
    return [b"".join((before, *row, after)) for row in zip(*several, strict=True)]


def part_of(config: Any, value: Any) -> bytes:
    """The value of a join key."""
    version = config.entity_key_serialization_version
    data, kind = _serialize_val(value.WhichOneof("val"), value, version)
    return HEAD.pack(kind, len(data)) + bytes(data)
