"""What can be asked of features."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from mlserve.calls.call import (
    Call,
    Moment,
    Program,
    Seconds,
    Word,
    as_it_is,
    bulk,
    check_mapping,
    chosen,
    decimals,
    expiry_words,
    flag_of,
    flags_of,
    in_order,
    in_seconds,
    listed,
    milliseconds,
    moment,
    named,
    nothing,
    pairs_of,
    text_of,
    word_of,
)
from mlserve.results import (
    FeatureInfo,
    FeatureView,
    FieldList,
    Key,
    Tensor,
    Value,
    seconds,
    widths_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Type: TypeAlias = Literal["AUTO", "F32", "F64", "I64", "STRING", "f4", "f8", "i8"] | str
"""What a value is written as; of a vector of bytes `F32[128]`, `F64[k]`, `I64[k]`. Numpy's
names of these types are as good."""
TensorType: TypeAlias = Literal["f4", "f8", "i8", "F32", "F64", "I64"]
Layout: TypeAlias = Literal["feast"]
"""How hashes are kept: "feast", as Feast's own Redis store writes them, with features named
`view:feature`."""
TENSOR_TYPES = {"f4": "F32", "f8": "F64", "i8": "I64"}
NUMPY_TYPES = {server: numpys for numpys, server in TENSOR_TYPES.items()}


def server_type(name: str) -> str:
    """A type by the server's name, with its width, be it given by that or by numpy's."""
    kind, bracket, width = name.partition("[")
    return TENSOR_TYPES.get(kind, kind) + bracket + width


def numpy_type(name: str) -> str:
    """A type of tensors by numpy's name, be it given by that or by the server's."""
    found = NUMPY_TYPES.get(server_type(name))
    if found is None:
        known = f"{', '.join(TENSOR_TYPES)}, or {', '.join(NUMPY_TYPES)}"
        raise ValueError(f"type must be one of {known}: {name!r}")
    return found


def type_of_array(dtype: Any) -> str | None:
    """What an array of numpy's is written as, whatever its byte order; None: it cannot be."""
    name = f"{dtype.kind}{dtype.itemsize}"
    return name if name in TENSOR_TYPES else None


def features_of(key: Key, fields: Iterable[Key]) -> Call[list[Value]]:
    """The values of some fields of an entity, in order, None for a missing one (ML.FEATURES).

    Of a hash the stored bytes; of a row numbers, by RESP2 bytes. A vector (`name[k]`) is its
    bytes, a sequence (`name[k]`, `name`) a list, the newest first; `sum(name,3600)`, and
    count, mean, min, max, std, a number. It may be repeated.
    """
    return Call(["ML.FEATURES", key, *listed("fields", fields)], as_it_is, (key,), again=True)


def featureset(
    key: Key,
    values: Mapping[Key, Any],
    *,
    view: Key | None = None,
    at: Moment | None = None,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    type: Type | Mapping[Key, Type] | None = None,  # noqa: A002
    replace: bool = False,
) -> Call[bool]:
    """Write fields of a row, beside those that it holds (ML.FEATURESET).

    A numpy array of one dimension, of f4, f8 or i8, is a vector of its type; so are bytes
    of type `F32[k]`. `at` is the event time, default now; `type` what the other values
    are, or a type for each field, default AUTO; `replace` has the view hold exactly these.
    False where the view holds something newer. It may be repeated.
    """
    check_mapping("values", values)
    unknown = [field for field in type if field not in values] if isinstance(type, Mapping) else []
    if unknown:
        raise ValueError(f"type names a field that has no value: {unknown[0]!r}")
    words: list[Word] = ["ML.FEATURESET", key]
    words += written_words(view, at, ttl, expires_at, replace)
    written: list[Word] = []
    kinds: list[Type | None] = []
    for field, value in values.items():
        kind = type.get(field, "AUTO") if isinstance(type, Mapping) else type
        if hasattr(value, "dtype") and getattr(value, "ndim", 0) == 1:
            kind, word = vector_of(field, value)
        elif isinstance(value, (list, tuple)):
            raise TypeError(
                f"value of {field!r} must be str, bytes, int, float or, of a vector, an array of "
                f"numpy: {value!r}"
            )
        else:
            word = word_of(f"value of {field!r}", value)
        kinds.append(kind if kind is None else server_type(kind))
        written += [field, word]
    words += kind_words(kinds)
    return Call([*words, "FIELDS", len(values), *written], flag_of, (key,), again=True)


def vector_of(field: Key, array: Any) -> tuple[Type, Word]:
    """The type of an array as a vector, and its bytes."""
    kind = type_of_array(array.dtype)
    if kind is None or not len(array):
        raise ValueError(
            f"the vector of field {field!r} must be an array of f4, f8 or i8, not {array.dtype} "
            f"of {len(array)}"
        )
    return f"{kind}[{len(array)}]", array.astype(f"<{kind}").tobytes()


def kind_words(kinds: Sequence[Type | None]) -> list[Word]:
    """The types of several values: one for all, or each."""
    if len(set(kinds)) > 1:
        return ["TYPES", len(kinds), *(kind or "AUTO" for kind in kinds)]
    if kinds[0] is None:
        return []
    name, _, dim = kinds[0].partition("[")
    return ["TYPE", name, "DIM", dim.removesuffix("]")] if dim else ["TYPE", name]


def written_words(
    view: Key | None,
    at: Moment | None,
    ttl: Seconds | None,
    expires_at: Moment | None,
    replace: bool,
) -> list[Word]:
    """What featureset and featuremset have in common."""
    words: list[Word] = []
    if view is not None:
        words += ["VIEW", view]
    if at is not None:
        words += ["AT", moment("at", at)]
    words += expiry_words(ttl, expires_at)
    if replace:
        words.append("REPLACE")
    return words


def featuremset(
    keys: Iterable[Key],
    fields: Iterable[Key],
    values: Any,
    *,
    type: TensorType | None = None,  # noqa: A002
    view: Key | None = None,
    at: Moment | None = None,
    times: Any = None,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    replace: bool = False,
    dim: int | None = None,
) -> Call[list[bool]]:
    """The same fields of several rows from one buffer (ML.FEATUREMSET).

    `values` is an array of keys × fields, or its bytes: little-endian numbers of `type`,
    row by row. Of vectors it is one of keys × fields × dim; `dim` is needed where it is
    bytes. `type` is f4, f8 or i8; default that of the array, which must be one of these; of
    lists i8 where they hold integers alone, and f4 else, as of bytes. Raises ValueError for
    an array of another type and for integers that the type does not hold. `times` is an
    event time for each key: a numpy array of datetime64 or of milliseconds since 1970, or
    its bytes as 64-bit little-endian integers. The result says for each key whether it was
    written. It may be repeated.
    """
    names, columns = listed("keys", keys), fields_of(fields)
    if not isinstance(columns[0], (str, bytes)):
        raise TypeError(f"fields must be names, before values: {columns[0]!r}")
    if dim is None and getattr(values, "ndim", 0) == 3:
        dim = values.shape[2]
    shape = (len(names), len(columns), *([] if dim is None else [dim]))
    kind, values = typed("values", values, type)
    blob = blob_of("values", values, f"<{kind}", shape)
    moments = (
        None if times is None else blob_of("times", in_milliseconds(times), "<i8", (len(names),))
    )
    words: list[Word] = ["ML.FEATUREMSET", len(names), *names, blob]
    words += ["TYPE", TENSOR_TYPES[kind]]
    if dim is not None:
        words += ["DIM", dim]
    words += fields_words(columns)
    words += written_words(view, at, ttl, expires_at, replace)
    if moments is not None:
        words += ["TIMES", moments]

    def part(places: Sequence[int]) -> Call[list[bool]]:
        return featuremset(
            chosen(names, places),
            columns,
            rows_of(blob, len(names), places),
            type=cast("TensorType", kind),
            view=view,
            at=at,
            times=None if moments is None else rows_of(moments, len(names), places),
            ttl=ttl,
            expires_at=expires_at,
            replace=replace,
            dim=dim,
        )

    split = in_order(part)
    return Call(words, flags_of, names, again=True, split=split, fields=list_of(columns))


def featurepush(
    key: Key,
    field: Key,
    items: Iterable[Word],
    last: int,
    *,
    at: Moment | None = None,
    seq: int | None = None,
    type: Type | None = None,  # noqa: A002
    view: Key | None = None,
) -> Call[bool]:
    """Add items to a sequence, which keeps the `last` newest (ML.FEATUREPUSH).

    `at` is when it happened, default now; `type` what the items are. False where nothing
    changed: `seq`, the number of the event in its log, was seen, or so many newer items
    are there. With `seq` it may be repeated.

    The word LAST, in any case, ends the items of the command: an item that reads so is
    pushed alone, or as the first; elsewhere it is a ValueError.
    """
    pushed = [word_of("an item", item) for item in listed("items", items)]
    for item in pushed[1:]:
        if not isinstance(item, (int, float)) and text_bytes(item).upper() == b"LAST":
            raise ValueError(f"items must not have {item!r} behind another: push it alone")
    words: list[Word] = ["ML.FEATUREPUSH", key, field, *pushed, "LAST", last]
    if type is not None:
        words += ["TYPE", server_type(type)]
    return Call([*words, *event_words(at, seq, view)], flag_of, (key,), again=seq is not None)


def featuretally(
    key: Key,
    amounts: Mapping[Key, float],
    windows: Iterable[tuple[Seconds, Seconds]],
    *,
    at: Moment | None = None,
    seq: int | None = None,
    view: Key | None = None,
) -> Call[bool]:
    """Add an amount to the windows of each field (ML.FEATURETALLY).

    `windows` are one or two of (span, tile): `[(3600, 60), (2592000, 86400)]` is an hour
    by minutes and a month by days. `at` is when it happened, default now. False where no
    window took it: it is older than all of them, or `seq`, the number of the event in its
    log, was seen. With `seq` it may be repeated.
    """
    check_mapping("amounts", amounts)
    words: list[Word] = ["ML.FEATURETALLY", key, "FIELDS", len(amounts)]
    for field, amount in amounts.items():
        words += [field, word_of(f"amount of {field!r}", amount)]
    for window in listed("windows", windows):
        words += span_words(window)
    return Call([*words, *event_words(at, seq, view)], flag_of, (key,), again=seq is not None)


def text_bytes(word: str | bytes) -> bytes:
    """A word as it is sent."""
    return word.encode() if isinstance(word, str) else bytes(word)


def span_words(window: Any) -> list[Word]:
    """A span and its tile."""
    try:
        span, tile = window
        return ["SPAN", decimals(in_seconds(span)), "TILE", decimals(in_seconds(tile))]
    except (TypeError, ValueError):
        raise ValueError(
            f"windows must be a list of (span, tile), both in seconds: {window!r} is none"
        ) from None


def event_words(at: Moment | None, seq: int | None, view: Key | None) -> list[Word]:
    """What featurepush and featuretally have in common."""
    words: list[Word] = []
    if at is not None:
        words += ["AT", moment("at", at)]
    if seq is not None:
        words += ["SEQ", seq]
    if view is not None:
        words += ["VIEW", view]
    return words


def typed(name: str, values: Any, wanted: str | None) -> tuple[str, Any]:
    """The type that numbers are sent as, by numpy's name, and they as an array; bytes as they are.

    Raises ValueError for integers that would be others then.
    """
    kind = None if wanted is None else numpy_type(wanted)
    if isinstance(values, (bytes, bytearray, memoryview)):
        return kind or "f4", values
    import numpy

    array = numpy.asarray(values)
    # Who writes numbers by hand has no type in mind; rows that are arrays have theirs.
    by_hand = isinstance(values, (list, tuple)) and not any(hasattr(row, "dtype") for row in values)
    if kind is None:
        kind = type_of_array(array.dtype)
        if by_hand and array.dtype.kind == "f":
            kind = "f4"
        if kind is None:
            raise ValueError(
                f"{name} must be an array of f4, f8 or i8, not of {array.dtype}: "
                f"give the type, or {name}.astype"
            )
    check_integers(name, array, kind)
    if by_hand and array.dtype.kind != "i":
        written = [one for one in numpy.asarray(values, object).flat if isinstance(one, Integral)]
        check_integers(name, numpy.array(written, object), kind)
    return kind, array


def check_integers(name: str, array: Any, kind: str) -> None:
    """Whether all integers of an array stay what they are: ids are no measurements, to be rounded.

    Nor is anything made an integer that is none.
    """
    if array.dtype.kind == "f" and kind != "i8":
        return
    import numpy

    with numpy.errstate(invalid="ignore", over="ignore"):
        changed = array.astype(f"<{kind}").astype(array.dtype) != array
    if changed.any():
        raise ValueError(f"{name} has a number that {kind} does not hold: {array[changed][0]}")


def blob_of(name: str, values: Any, dtype: str, shape: tuple[int, ...]) -> bytes:
    """An array as the bytes that are sent; bytes as they are."""
    if isinstance(values, (bytes, bytearray, memoryview)):
        return bytes(values)
    import numpy

    array = numpy.asarray(values, dtype)
    if array.shape != shape:
        wanted = " × ".join(map(str, shape))
        raise ValueError(f"{name} must be an array of {wanted}, not of {array.shape}")
    return bytes(array.tobytes())


def in_milliseconds(times: Any) -> Any:
    """Moments of numpy as the server counts them; anything else as it is."""
    if getattr(getattr(times, "dtype", None), "kind", "") == "M":
        return times.astype("datetime64[ms]").astype("<i8")
    return times


def rows_of(blob: bytes, count: int, places: Sequence[int]) -> bytes:
    """Some rows of a buffer of so many."""
    width = len(blob) // count
    return b"".join(blob[place * width : (place + 1) * width] for place in places)


def featuredel(
    key: Key, *, view: Key | None = None, fields: Iterable[Key] | None = None
) -> Call[int]:
    """Remove a view ("" is the default one) or fields of a row (ML.FEATUREDEL).

    The result is how many fields went. It may be repeated, and counts none then.
    """
    if (view is None) == (fields is None):
        raise ValueError("either view or fields must be given")
    words: list[Word] = ["ML.FEATUREDEL", key]
    if view is not None:
        words += ["VIEW", view]
    elif fields is not None:
        words += fields_words(fields_of(fields))
    return Call(words, as_it_is, (key,), again=True, fields=list_of(fields))


def featureinfo(key: Key) -> Call[FeatureInfo | None]:
    """What a row holds, or None (ML.FEATUREINFO). It may be repeated."""

    def view_of(answer: Any) -> FeatureView:
        found = named(answer)
        fields = {name: text_of(kind) for name, kind in found["fields"]}
        return FeatureView(found["view"], found["at_ms"] / 1000, seconds(found["ttl_ms"]), fields)

    def read(answer: Any) -> FeatureInfo | None:
        if answer is None:
            return None
        found = named(answer)
        return FeatureInfo(found["bytes"], [view_of(view) for view in found["views"]])

    return Call(["ML.FEATUREINFO", key], read, (key,), again=True)


def featuregetall(key: Key, *, view: Key | None = None) -> Call[dict[bytes, Value]]:
    """All fields of an entity, or those of one view by their own names (ML.FEATUREGETALL).

    It may be repeated.
    """
    words: list[Word] = ["ML.FEATUREGETALL", key]
    if view is not None:
        words += ["VIEW", view]
    return Call(words, pairs_of, (key,), again=True)


def fields_of(fields: Iterable[Key]) -> list[Key]:
    """The fields of a call; a field list stays one."""
    return fields if isinstance(fields, FieldList) else listed("fields", fields)


def list_of(fields: Iterable[Key] | None) -> FieldList | None:
    """The field list that the fields of a call are, if they are one."""
    return fields if isinstance(fields, FieldList) else None


def as_many(fields: Sequence[Key], rows: list[list[Value]]) -> list[list[Value]]:
    """Rows of values, as many in each as there are fields."""
    if isinstance(fields, FieldList):
        for row in rows:
            fields.check("values", len(row), len(fields))
    return rows


def fields_words(fields: Sequence[Key]) -> list[Word]:
    """How a call says its fields: each of them, or in a word where the server knows them."""
    if isinstance(fields, FieldList):
        name = fields.name.encode() if isinstance(fields.name, str) else fields.name
        return ["FIELDS", b"@" + name]
    return ["FIELDS", len(fields), *fields]


def asked_words(
    fields: Sequence[Key],
    default: Word | None,
    defaults: Sequence[Word] | None,
    max_age: Seconds | None,
    strict: bool,
    layout: Layout | None,
) -> list[Word]:
    """What the ways to read features of several entities have in common."""
    words = fields_words(fields)
    if default is not None:
        words += ["DEFAULT", word_of("default", default)]
    if defaults is not None:
        words += ["DEFAULTS", len(defaults), *(word_of("defaults", one) for one in defaults)]
    if max_age is not None:
        words += ["MAXAGE", milliseconds("max_age", max_age, above_0=True)]
    if strict:
        words.append("STRICT")
    if layout is not None:
        words += ["LAYOUT", layout.upper()]
    return words


def featureget(
    keys: Iterable[Key],
    fields: Iterable[Key],
    *,
    default: Word | None = None,
    defaults: Sequence[Word] | None = None,
    max_age: Seconds | None = None,
    strict: bool = False,
    layout: Layout | None = None,
) -> Call[list[list[Value]]]:
    """The same fields of several entities (ML.FEATUREGET AS VALUES), a list for each.

    None stands for what is missing or older than `max_age` seconds, or `default`, or the
    field's own of `defaults`; with `strict` it is an error. `layout="feast"` reads hashes as
    Feast's own Redis store writes them. It may be repeated.
    """
    names, columns = listed("keys", keys), fields_of(fields)
    words: list[Word] = ["ML.FEATUREGET", len(names), *names]
    words += asked_words(columns, default, defaults, max_age, strict, layout)

    def part(places: Sequence[int]) -> Call[list[list[Value]]]:
        return featureget(
            chosen(names, places),
            columns,
            default=default,
            defaults=defaults,
            max_age=max_age,
            strict=strict,
            layout=layout,
        )

    def read(answer: Any) -> list[list[Value]]:
        return as_many(columns, answer)

    split = in_order(part)
    return Call(words, read, names, again=True, split=split, fields=list_of(columns))


def featureget_timed(
    keys: Iterable[Key],
    fields: Iterable[Key],
    *,
    max_age: Seconds | None = None,
    strict: bool = False,
    layout: Layout | None = None,
) -> Call[list[tuple[list[Value], list[float | None]]]]:
    """The same with event times: for each entity its values, and as many moments.

    These are seconds since 1970; None of what is missing, and of hashes, unless these are of
    `layout="feast"`. It may be repeated.
    """
    names, columns = listed("keys", keys), fields_of(fields)
    words: list[Word] = ["ML.FEATUREGET", len(names), *names]
    words += [*asked_words(columns, None, None, max_age, strict, layout), "WITHTIMES"]

    def read(answer: list[Any]) -> list[tuple[list[Value], list[float | None]]]:
        values, times = answer
        as_many(columns, values)
        return [
            (row, [at / 1000 if at >= 0 else None for at in moments])
            for row, moments in zip(values, times, strict=True)
        ]

    def part(places: Sequence[int]) -> Call[list[tuple[list[Value], list[float | None]]]]:
        return featureget_timed(
            chosen(names, places), columns, max_age=max_age, strict=strict, layout=layout
        )

    split = in_order(part)
    return Call(words, read, names, again=True, split=split, fields=list_of(columns))


def featurejson(
    keys: Iterable[Key],
    fields: Iterable[Key],
    *,
    default: Word | None = None,
    defaults: Sequence[Word] | None = None,
    max_age: Seconds | None = None,
    strict: bool = False,
    layout: Layout | None = None,
) -> Call[bytes]:
    """The same as a JSON array with an object for each entity (ML.FEATUREGET AS JSON)."""
    names, columns = listed("keys", keys), fields_of(fields)
    words: list[Word] = ["ML.FEATUREGET", len(names), *names]
    words += [*asked_words(columns, default, defaults, max_age, strict, layout), "AS", "JSON"]

    def split(groups: Sequence[Sequence[int]]) -> Program[bytes]:
        # An entity a call: so each is one object, whose text is taken as it is.
        del groups
        objects = yield [
            featurejson(
                [name],
                columns,
                default=default,
                defaults=defaults,
                max_age=max_age,
                strict=strict,
                layout=layout,
            )
            for name in names
        ]
        return b"[" + b",".join(text[1:-1] for text in objects) + b"]"

    return Call(words, as_it_is, names, again=True, split=split, fields=list_of(columns))


class Asked:
    """Prepare to read the same fields of any entities: `features(keys)`, a Tensor.

        features = client.features(["price", "stock"], type="f4")
        features(["item:1", "item:2"]).numpy()

    The arguments are those of `featuretensor`. What is the same each time is packed once.
    """

    __slots__ = ("dtype", "fields", "packed", "widths", "with_times", "words")

    def __init__(
        self,
        fields: Iterable[Key],
        type: TensorType = "f4",  # noqa: A002
        *,
        default: float | None = None,
        defaults: Sequence[float] | None = None,
        max_age: Seconds | None = None,
        strict: bool = False,
        with_times: bool = False,
        layout: Layout | None = None,
    ) -> None:
        """The arguments of `featuretensor`."""
        kind = numpy_type(type)
        self.fields = fields_of(fields)
        self.widths = widths_of(self.fields)
        self.dtype = f"<{kind}"
        self.with_times = with_times
        self.words = asked_words(self.fields, default, defaults, max_age, strict, layout)
        self.words += ["AS", "TENSOR", "TYPE", TENSOR_TYPES[kind]]
        if with_times:
            self.words.append("WITHTIMES")
        self.packed = b"".join(map(bulk, self.words))

    def of(self, keys: Iterable[Key]) -> Call[Tensor]:
        """The call for these entities, packed already."""
        names = listed("keys", keys)
        count = 2 + len(names) + len(self.words)
        head = b"*%d\r\n$13\r\nML.FEATUREGET\r\n" % count
        packed = b"".join([head, bulk(len(names)), *map(bulk, names), self.packed])

        def read(answer: list[Any]) -> Tensor:
            times = answer[5] if self.with_times else None
            return self.tensor(names, answer[3], answer[4], times)

        def split(groups: Sequence[Sequence[int]]) -> Program[Tensor]:
            parts: list[Tensor] = yield [self.of(chosen(names, group)) for group in groups]
            return self.merged(names, groups, parts)

        return Call(packed, read, names, again=True, split=split, fields=list_of(self.fields))

    def merged(
        self, names: Sequence[Key], groups: Sequence[Sequence[int]], parts: Sequence[Tensor]
    ) -> Tensor:
        """One tensor of those of several slots, its rows in order."""

        def rows(buffers: Sequence[bytes]) -> bytes:
            found: list[bytes] = [b""] * len(names)
            for group, buffer in zip(groups, buffers, strict=True):
                for row, place in enumerate(group):
                    found[place] = rows_of(buffer, len(group), [row])
            return b"".join(found)

        data = rows([part.data for part in parts])
        status = rows([part.status for part in parts])
        times = rows([cast("bytes", part.times) for part in parts]) if self.with_times else None
        return self.tensor(names, data, status, times)

    def tensor(
        self, names: Sequence[Key], data: bytes, status: bytes, times: bytes | None
    ) -> Tensor:
        """The fields of these entities."""
        if isinstance(self.fields, FieldList):
            each = len(names) * int(self.dtype[-1])
            self.fields.check("numbers", len(data) // each, sum(self.widths))
            self.fields.check("fields", len(status) // len(names), len(self.fields))
        return Tensor(names, self.fields, self.dtype, data, status, times, self.widths)


def featuretensor(
    keys: Iterable[Key],
    fields: Iterable[Key],
    type: TensorType = "f4",  # noqa: A002
    *,
    default: float | None = None,
    defaults: Sequence[float] | None = None,
    max_age: Seconds | None = None,
    strict: bool = False,
    with_times: bool = False,
    layout: Layout | None = None,
) -> Call[Tensor]:
    """The same fields of several entities as one buffer of numbers (ML.FEATUREGET AS TENSOR).

    `type` is f4, f8 or i8. NaN stands for what is missing, older than `max_age` seconds,
    or no number; or `default`, or the field's own of `defaults`; with `strict` it is an
    error. `with_times` brings the event times; `layout="feast"` reads hashes as Feast's own
    Redis store writes them. `client.features(fields)` packs what is the same for each call
    once. It may be repeated.
    """
    return Asked(
        fields,
        type,
        default=default,
        defaults=defaults,
        max_age=max_age,
        strict=strict,
        with_times=with_times,
        layout=layout,
    ).of(keys)


def fieldlist(
    name: Key, fields: Iterable[Key] | EllipsisType | None = ...
) -> Call[list[bytes] | None]:
    """Have a name stand for fields, in place of those before (ML.FIELDLIST).

    None has it stand for none. Calls that are given a `FieldList` of that name say it instead
    of the fields. In a cluster each primary is told. By the name alone the result is what it
    stands for, of a cluster at any node: a list, or None. It may be repeated.
    """
    words: list[Word] = ["ML.FIELDLIST", name]
    if isinstance(fields, EllipsisType):
        return Call(words, as_it_is, again=True)
    words += ["CLEAR"] if fields is None else listed("fields", fields)
    return Call(words, nothing, again=True, everywhere=True)


def fieldlists(near: Sequence[Key] = ()) -> Call[dict[bytes, list[bytes]]]:
    """All field lists, and the fields of each (ML.FIELDLISTS).

    Of a cluster, any node's, or that of the first key in `near`. It may be repeated.
    """
    return Call(["ML.FIELDLISTS"], pairs_of, near, again=True)
