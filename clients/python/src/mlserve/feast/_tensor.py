"""Features as one numpy array, past protobuf."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from feast import utils
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

from mlserve.calls import Asked
from mlserve.calls.features import NUMPY_TYPES
from mlserve.feast._keys import is_of_feast, keys_of_python
from mlserve.feast._reads import portions, view_of
from mlserve.feast._store import MlserveOnlineStore
from mlserve.feast._values import SERIALIZED, kinds_of
from mlserve.results import FieldStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from mlserve.calls import Call
    from mlserve.calls.features import Layout
    from mlserve.results import Tensor

KEPT = 256
"""Requests of which it is kept how they are read."""

READERS: WeakKeyDictionary[Any, MlserveOnlineStore] = WeakKeyDictionary()
"""What reads in the place of Feast's own online stores."""


class OnlineTensor(NamedTuple):
    """Features of several entities."""

    values: NDArray[Any]
    """Entities × features, in the order of the request."""
    status: NDArray[np.uint8]
    """Of each a `mlserve.FieldStatus`: PRESENT, NOT_FOUND, or NOT_A_NUMBER for a null, which
    is NOT_FOUND in what Feast's own store wrote; MISFIT where a vector, a sequence or windows
    stand, which are not Feast's."""
    features: list[str]
    """The names, as `get_online_features` has them."""


class Part(NamedTuple):
    """Features of which the entities have the same join keys."""

    table: Any
    asked: Asked
    places: list[int]
    """Of each feature in the request."""


class Request(NamedTuple):
    """What is to be asked, and how its answers are joined."""

    online: MlserveOnlineStore
    plan: Plan
    calls: list[list[Call[Tensor]]]
    """Of each part: several, for more values than one command reads."""
    columns: dict[str, list[Any]]
    """The entities."""


class Plan(NamedTuple):
    """How a request is read."""

    context: Any
    """Feast's, by whose identity the plan is known to be still right."""
    parts: list[Part]
    features: list[str]
    whole: bool
    """Whether nothing may be missing: there is nothing to stand for it."""


def get_online_tensor(
    store: Any,
    features: Any,
    entity_rows: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    dtype: DTypeLike = "f4",
    *,
    full_feature_names: bool = False,
    default: float | None = None,
) -> OnlineTensor:
    """Features of several entities as a numpy array (ML.FEATUREGET AS TENSOR).

    `store` is Feast's FeatureStore, with the online store of this package, or with Feast's own
    for Redis, whose data is read as it is (LAYOUT FEAST); `features`, `entity_rows` (or a column
    for each join key) and `full_feature_names` are those of `get_online_features`. `dtype` is
    f4, f8 or i8; numbers are rounded to it, once, and what an i8 cannot hold is not a number.
    NaN stands for what is null or missing, or `default`, which an i8 must have. Features must
    be numbers, booleans or timestamps.

    Raises ValueError for other features, for on demand feature views, and for what an i8
    misses, and KeyError for a join key that is not given, as well as what
    `get_online_features` does.
    """
    request = prepared(store, features, entity_rows, dtype, full_feature_names, default)
    return joined(request, request.online.ask(store.config, list(chain(*request.calls))))


async def get_online_tensor_async(
    store: Any,
    features: Any,
    entity_rows: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    dtype: DTypeLike = "f4",
    *,
    full_feature_names: bool = False,
    default: float | None = None,
) -> OnlineTensor:
    """`get_online_tensor` for asyncio."""
    request = prepared(store, features, entity_rows, dtype, full_feature_names, default)
    return joined(
        request, await request.online.ask_async(store.config, list(chain(*request.calls)))
    )


def prepared(
    store: Any,
    features: Any,
    entity_rows: Any,
    dtype: DTypeLike,
    full_feature_names: bool,
    default: float | None,
) -> Request:
    """What is to be asked, and how its answers are joined."""
    online = reader_of(store)
    # The server's names of types are as good as numpy's.
    named = NUMPY_TYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    kind = np.dtype(named).newbyteorder("<")
    context = utils._get_cached_request_context(
        store.registry, store.project, features, full_feature_names
    )
    names = tuple(features) if isinstance(features, list) else features.name
    known = (names, full_feature_names, kind.str, default)
    plan = online.plans.get(known)
    if plan is None or plan.context is not context:
        plan = planned(store.config, context, kind.str, full_feature_names, default)
        if len(online.plans) >= KEPT:
            online.plans.clear()
        online.plans[known] = plan
    (_, _, join_key_of, types, _, _, _, _, without_entity) = context[:9]
    rows = {join_key_of.get(name, name): values for name, values in columns_of(entity_rows)}
    columns = dict(rows)
    if without_entity and columns:
        count = len(next(iter(columns.values())))
        columns[DUMMY_ENTITY_ID] = [DUMMY_ENTITY_VAL] * count
    several = []
    for part in plan.parts:
        entities = utils._get_table_entity_values(part.table, join_key_of, columns)
        wanted = [join_key_of[name] for name in part.table.entities]
        aliases = part.table.projection.join_key_map
        missing = [name for name in wanted if name not in entities]
        if missing:
            given = [aliases.get(name, name) for name in missing]
            raise KeyError(f"entity_rows must have the join keys {', '.join(given)}")
        keys = keys_of_python(store.config, entities, types)
        several.append([part.asked.of(some) for some in portions(keys, len(part.places))])
    return Request(online, plan, several, rows)


def reader_of(store: Any) -> MlserveOnlineStore:
    """What reads the online store: itself, or in the place of Feast's own."""
    online = store._get_provider().online_store
    if isinstance(online, MlserveOnlineStore):
        return online
    if not is_of_feast(store.config):
        raise TypeError(
            f"store must have the online store of mlserve.feast, or Feast's for Redis: {online!r}"
        )
    return READERS.setdefault(online, MlserveOnlineStore())


def columns_of(entity_rows: Any) -> list[tuple[str, list[Any]]]:
    """Entities as columns of Python's values, all of one length."""
    if hasattr(entity_rows, "keys"):
        columns = {name: listed(values) for name, values in entity_rows.items()}
    else:
        rows = list(entity_rows)
        if not rows:
            raise ValueError("entity_rows must not be empty")
        columns = {name: [] for name in rows[0]}
        for row in rows:
            if row.keys() != columns.keys():
                raise ValueError("entity_rows must all have the same keys")
            for name, value in row.items():
                columns[name].append(value)
    if len({len(values) for values in columns.values()}) != 1:
        raise ValueError("entity_rows must be columns of one length")
    return list(columns.items())


def listed(values: Any) -> list[Any]:
    """Values of a list, or of an array of numpy's or pandas'."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def planned(
    config: Any, context: Any, dtype: str, full_feature_names: bool, default: float | None
) -> Plan:
    """How a request is read: a part for each set of join keys."""
    refs, on_demand, *_ = context
    if on_demand:
        names = ", ".join(view.name for view in on_demand)
        raise ValueError(f"features of on demand feature views are computed by Feast: {names}")
    tables = {table.projection.name_to_use(): table for table, _ in context[5]}
    features: list[str] = []
    groups: dict[Any, tuple[Any, list[str], list[int]]] = {}
    for ref in refs:
        view, version, name = utils._parse_feature_ref(ref)
        used = view if version is None else f"{view}@v{version}"
        table = tables[used]
        if kinds_of(table).get(name, SERIALIZED).read == "text":
            raise ValueError(f"{ref} is no number, and no boolean or timestamp")
        joined_by = (tuple(table.entities), tuple(sorted(table.projection.join_key_map.items())))
        _, fields, places = groups.setdefault(joined_by, (table, [], []))
        fields.append(f"{view_of(config, table)}:{name}")
        places.append(len(features))
        features.append(f"{used}__{name}" if full_feature_names else name)
    layout: Layout | None = "feast" if is_of_feast(config) else None
    whole = dtype == "<i8" and default is None
    if whole:
        default = 0  # By its status it is known, and the entity is named.
    parts = [
        Part(
            table,
            Asked(fields, dtype[1:], default=default, layout=layout),  # type: ignore[arg-type]
            places,
        )
        for table, fields, places in groups.values()
    ]
    return Plan(context, parts, features, whole)


def joined(request: Request, tensors: Sequence[Tensor]) -> OnlineTensor:
    """The parts side by side, the features in the order of the request."""
    plan = request.plan
    if len(tensors) == 1:
        found = OnlineTensor(tensors[0].numpy(), tensors[0].statuses(), plan.features)
    else:
        order = np.argsort([place for part in plan.parts for place in part.places])
        answers = iter(tensors)
        parts = [list(islice(answers, len(calls))) for calls in request.calls]
        values = [np.concatenate([tensor.numpy() for tensor in part]) for part in parts]
        status = [np.concatenate([tensor.statuses() for tensor in part]) for part in parts]
        found = OnlineTensor(
            np.hstack(values)[:, order], np.hstack(status)[:, order], plan.features
        )
    if plan.whole and (found.status != FieldStatus.PRESENT).any():
        row, column = np.argwhere(found.status != FieldStatus.PRESENT)[0]
        entity = {name: values[row] for name, values in request.columns.items()}
        raise ValueError(
            f"feature {plan.features[column]} of {entity} has no value of type i8 "
            f"({FieldStatus(found.status[row, column]).name}): give a default"
        )
    return found


def row_keys(
    store: Any, entity_rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]
) -> list[bytes]:
    """The keys of the rows of entities, for calls of your own beside Feast.

    `entity_rows` as `get_online_tensor` has them. Raises ValueError for a value that is not
    of its join key's type.
    """
    entities = store.list_entities(allow_cache=True)
    join_key_of = {entity.name: entity.join_key for entity in entities}
    types = {entity.join_key: entity.value_type for entity in entities}
    columns = {join_key_of.get(name, name): values for name, values in columns_of(entity_rows)}
    return keys_of_python(store.config, columns, types)
