"""Reads of several feature views at once, in one round trip."""

from __future__ import annotations

import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from feast import utils
from feast.infra.online_stores.helpers import compute_versioned_name
from google.protobuf.message import DecodeError

from mlserve import calls
from mlserve.feast import _wire
from mlserve.feast._keys import key_of, keys_of
from mlserve.feast._values import ANOTHER_TYPE, SERIALIZED, Kind, kinds_of
from mlserve.results import FieldStatus

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
    from numpy.typing import NDArray

    from mlserve.calls import Call

VALUES = 100_000
"""That one command reads: fewer than the server takes, and no other client waits for long."""

Read: TypeAlias = "list[tuple[datetime.datetime | None, dict[str, Any] | None]]"
"""As Feast has it: an event time and Values by name, for each entity."""

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Wanted(NamedTuple):
    """Features of a view, of some entities; the same key may come several times."""

    table: Any
    names: Sequence[str]
    keys: Sequence[bytes]


class Found(NamedTuple):
    """What was read of a view: for each feature its Values, and whether each was there."""

    values: list[bytes]
    there: NDArray[np.bool_]
    """Entities × features."""
    times: NDArray[np.int64]
    """The event time of each entity's row, in milliseconds since 1970; -1: there is none."""

    def vectors(self) -> list[bytes]:
        """A FeatureVector for each feature."""
        return _wire.vectors(self.values, self.there, self.times)


def view_of(config: Any, table: Any) -> str:
    """The name that a feature view is kept under: with its version, where these are in use."""
    versions = config.registry.enable_online_feature_view_versioning
    return str(compute_versioned_name(table, versions))


class Column(NamedTuple):
    """A feature that is read: where it stands in what is wanted, and how it is kept."""

    wanted: int
    place: int
    field: str
    kind: Kind


def reading(
    config: Any, several: Sequence[Wanted]
) -> Generator[list[Call[Any]], list[Any], list[Found]]:
    """Read all that is wanted: a command for each set of entities and way to read.

    There are several for what is above `VALUES`.
    """
    found = [
        Found(
            [b""] * len(wanted.names),
            np.zeros((len(wanted.keys), len(wanted.names)), np.bool_),
            np.full(len(wanted.keys), -1, np.int64),
        )
        for wanted in several
    ]
    groups: dict[tuple[tuple[bytes, ...], str], list[Column]] = {}
    for number, wanted in enumerate(several):
        kinds, view, keys = (
            kinds_of(wanted.table),
            view_of(config, wanted.table),
            tuple(wanted.keys),
        )
        for place, name in enumerate(wanted.names) if keys else ():
            kind = kinds.get(name, SERIALIZED)
            column = Column(number, place, f"{view}:{name}", kind)
            groups.setdefault((keys, kind.read), []).append(column)
    if groups:
        commands = [
            [
                asked(part, how, [column.field for column in columns])
                for part in portions(list(dict.fromkeys(keys)), len(columns))
            ]
            for (keys, how), columns in groups.items()
        ]
        answers = iter((yield list(chain(*commands))))
        for ((keys, how), columns), several_of in zip(groups.items(), commands, strict=True):
            places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
            rows = np.array([places[key] for key in keys])
            read = texts_into if how == "text" else numbers_into
            read(found, columns, list(islice(answers, len(several_of))), rows)
    return found


def portions(keys: list[bytes], fields: int) -> list[list[bytes]]:
    """The keys of each of the commands that read so many fields of them."""
    rows = max(VALUES // fields, 1)
    return [keys[begin : begin + rows] for begin in range(0, len(keys), rows)]


def asked(keys: list[bytes], how: str, fields: list[str]) -> Call[Any]:
    """The command."""
    match how:
        case "f8":
            return calls.featuretensor(keys, fields, "f8", with_times=True)
        case "i8":
            # There is no NaN: the status says what is missing.
            return calls.featuretensor(keys, fields, "i8", default=0, with_times=True)
        case _:
            return calls.featureget_timed(keys, fields)


def numbers_into(
    found: list[Found], columns: list[Column], tensors: Sequence[Any], rows: NDArray[np.int64]
) -> None:
    """Put what tensors hold, one below the other, where it was wanted."""
    numbers = np.concatenate([tensor.numpy() for tensor in tensors])[rows]
    statuses = np.concatenate([tensor.statuses() for tensor in tensors])[rows]
    times = b"".join(tensor.times for tensor in tensors)
    moments = np.frombuffer(times, "<i8").reshape(-1, len(columns))[rows]
    misfits = (statuses == FieldStatus.MISFIT).any(axis=0)
    if misfits.any():
        raise of_another_type(columns[int(misfits.argmax())])
    by_kind: dict[Kind, list[int]] = {}
    for at, column in enumerate(columns):
        by_kind.setdefault(column.kind, []).append(at)
    for kind, places in by_kind.items():
        written = _wire.columns_of_numbers(
            kind, numbers[:, places], statuses[:, places] == FieldStatus.PRESENT
        )
        for at, values in zip(places, written, strict=True):
            found[columns[at].wanted].values[columns[at].place] = values
    placed(found, columns, statuses != FieldStatus.NOT_FOUND, moments)


def texts_into(
    found: list[Found], columns: list[Column], answers: Sequence[Any], rows: NDArray[np.int64]
) -> None:
    """Put what is read as text where it was wanted."""
    answer = list(chain(*answers))
    values = [answer[row][0] for row in rows]
    for at, column in enumerate(columns):
        texts = (row[at] for row in values)
        try:
            written = _wire.column_of_texts(column.kind, texts)
        except ValueError as error:
            raise of_another_type(column) from error
        found[column.wanted].values[column.place] = written
    moments = np.array(
        [[-1 if at is None else round(at * 1000) for at in times] for _, times in answer], np.int64
    )[rows]
    placed(
        found, columns, np.array([[text is not None for text in row] for row in values]), moments
    )


def of_another_type(column: Column) -> ValueError:
    """What is raised for a feature of which something else was found."""
    view, _, name = column.field.partition(":")
    return ValueError(f"feature {name} of feature view {view}: {ANOTHER_TYPE}")


def placed(
    found: list[Found],
    columns: list[Column],
    there: NDArray[np.bool_],
    moments: NDArray[np.int64],
) -> None:
    """Put down what was there and when, for columns of which those of a view are in a row."""
    begin = 0
    while begin < len(columns):
        number, end = columns[begin].wanted, begin + 1
        while end < len(columns) and columns[end].wanted == number:
            end += 1
        of_view = found[number]
        places = [column.place for column in columns[begin:end]]
        of_view.there[:, places] = there[:, begin:end]
        np.maximum(of_view.times, moments[:, begin:end].max(axis=1), out=of_view.times)
        begin = end


def read_of(
    config: Any, table: Any, entity_keys: Sequence[Any], requested_features: Sequence[str] | None
) -> Generator[list[Call[Any]], list[Any], Read]:
    """Read features of a view."""
    names = requested_features or [field.name for field in table.features]
    wanted = Wanted(table, names, [key_of(config, entity) for entity in entity_keys])
    (found,) = yield from reading(config, [wanted])
    columns = [
        parsed(_wire.Vector(), vector, view_of(config, table)).values for vector in found.vectors()
    ]
    return [
        (
            EPOCH + datetime.timedelta(milliseconds=int(at)),
            {name: columns[at][row] for at, name in enumerate(names) if there[at]},
        )
        if there.any()
        else (None, None)
        for row, (at, there) in enumerate(zip(found.times, found.there, strict=True))
    ]


def filled(
    config: Any,
    grouped_refs: Sequence[Any],
    join_key_values: dict[str, Any],
    entity_name_to_join_key_map: dict[str, str],
    response: GetOnlineFeaturesResponse,
    full_feature_names: bool,
    include_feature_view_version_metadata: bool,
) -> Generator[list[Call[Any]], list[Any], None]:
    """Fill a response with all views of a request."""
    several = []
    known: dict[tuple[tuple[str, int], ...], list[bytes]] = {}
    for table, names in grouped_refs:
        entities = utils._get_table_entity_values(
            table, entity_name_to_join_key_map, join_key_values
        )
        if not any(entities.values()):
            # Whether that is an error, and which, is Feast's to say.
            utils._get_unique_entities(table, join_key_values, entity_name_to_join_key_map)
        columns = tuple((name, id(values)) for name, values in entities.items())
        if columns not in known:
            known[columns] = keys_of(config, entities) if entities else []
        several.append(Wanted(table, names, known[columns]))
    found = yield from reading(config, several)
    out = []
    for wanted, of_view in zip(several, found, strict=True):
        table = wanted.table
        # Without rows it fills in what is said of the view, and no more.
        utils._populate_response_from_feature_data(
            [], [], (), response, full_feature_names, table, 0,
            include_feature_view_version_metadata,
        )  # fmt: skip
        before = f"{table.projection.name_to_use()}__" if full_feature_names else ""
        response.metadata.feature_names.val.extend(before + name for name in wanted.names)
        counted(table.name, of_view)
        out += [_wire.result(vector) for vector in of_view.vectors()]
    parsed(response, b"".join(out), ", ".join(wanted.table.name for wanted in several))


def counted(name: str, found: Found) -> None:
    """Have Feast count what was found, where its metrics are on."""
    try:
        from feast.metrics import track_feature_statuses
    except ImportError:
        return
    there = int(found.there.sum())
    track_feature_statuses(name, there, found.there.size - there)


def parsed(message: Any, data: bytes, views: str) -> Any:
    """Add to a message what its fields are in the wire format."""
    try:
        message.MergeFromString(data)
    except DecodeError as error:
        raise ValueError(f"feature view {views}: {ANOTHER_TYPE}") from error
    return message
