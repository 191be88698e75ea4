"""ML.FEATUREGET as a service of models uses it: numpy arrays and JSON."""

import json

import numpy
import pytest
import redis

DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}


def tensor(client, keys, fields, *options):
    """The features of these entities as an array, and what is known of each."""
    kind, n, m, data, status = client.execute_command(
        "ML.FEATUREGET", len(keys), *keys, "FIELDS", len(fields), *fields, "AS", "TENSOR", *options
    )
    dtype = DTYPES[kind.decode()]
    values = numpy.frombuffer(data, dtype).reshape(n, m)
    return values, numpy.frombuffer(status, "u1").reshape(n, m)


def as_map(answer):
    """A map, which RESP2 answers as a list."""
    return dict(zip(answer[::2], answer[1::2])) if isinstance(answer, list) else answer


@pytest.mark.parametrize("kind", DTYPES)
def test_a_tensor_is_read_without_parsing(client, kind):
    random = numpy.random.default_rng(1)
    wanted = random.integers(-1000, 1000, (200, 50)).astype(DTYPES[kind])
    keys = [f"user:{n}" for n in range(200)]
    fields = [f"feature_{m}" for m in range(50)]
    with client.pipeline(transaction=False) as pipe:
        for key, row in zip(keys, wanted):
            pipe.hset(key, mapping=dict(zip(fields, map(int, row))))
        pipe.execute()
    values, status = tensor(client, keys, fields, "TYPE", kind)
    assert values.dtype == numpy.dtype(DTYPES[kind])
    numpy.testing.assert_array_equal(values, wanted)
    assert (status == 1).all()


def test_what_is_missing_is_nan_or_a_default(client):
    client.hset("user:1", mapping={"age": 34, "country": "DE"})
    keys, fields = ["user:1", "nobody"], ["age", "country", "clicks"]
    values, status = tensor(client, keys, fields)
    assert values.dtype == numpy.float32
    assert status.tolist() == [[1, 0, 3], [3, 3, 3]]
    assert numpy.isnan(values).tolist() == [[False, True, True], [True, True, True]]
    values, _ = tensor(client, keys, fields, "DEFAULTS", 3, -1, -2, -3)
    assert values.tolist() == [[34, -2, -3], [-1, -2, -3]]
    with pytest.raises(redis.ResponseError, match="'country'.*'user:1'.*DEFAULT"):
        tensor(client, keys, fields, "TYPE", "I64")


def test_json_is_one_document(client):
    client.hset("user:123", mapping={"age": 34, "country": "DE", "avg_basket": "84.50"})
    text = client.execute_command(
        "ML.FEATUREGET", 2, "user:123", "user:9", "FIELDS", 3, "country", "age", "avg_basket",
        "AS", "JSON",
    )
    assert b'"avg_basket":84.50' in text
    assert json.loads(text) == [
        {"country": "DE", "age": 34, "avg_basket": 84.5},
        {"country": None, "age": None, "avg_basket": None},
    ]


def test_values_are_bytes_as_hmget_has_them(client):
    client.hset("user:123", mapping={"age": 34, "country": "DE"})
    rows = client.execute_command("ML.FEATUREGET", 2, "user:123", "user:9", "FIELDS", 2, "country", "age")
    assert rows == [[b"DE", b"34"], [None, None]]


def test_event_times_come_as_an_array(client):
    now = 1_700_000_000_000
    keys, fields = ["user:1", "user:2"], ["a", "b"]
    times = numpy.array([now, now + 5], "<i8")
    blob = numpy.arange(4, dtype="<f4").tobytes()
    answer = client.execute_command(
        "ML.FEATUREMSET", 2, *keys, blob, "TYPE", "F32", "FIELDS", 2, *fields,
        "TIMES", times.tobytes(), "REPLACE")
    assert answer == [1, 1]
    *_, data, status, at = client.execute_command(
        "ML.FEATUREGET", 3, *keys, "nobody", "FIELDS", 2, *fields, "AS", "TENSOR", "WITHTIMES")
    at = numpy.frombuffer(at, "<i8").reshape(3, 2)
    assert at.tolist() == [[now, now], [now + 5, now + 5], [-1, -1]]
    assert numpy.frombuffer(data, "<f4")[:4].tolist() == [0, 1, 2, 3]
    with pytest.raises(redis.ResponseError, match="TIMES.*milliseconds"):
        client.execute_command(
            "ML.FEATUREMSET", 2, *keys, blob, "TYPE", "F32", "FIELDS", 2, *fields,
            "TIMES", (times // 1000).tobytes())


def test_small_floats_are_numbers_as_python_writes_them(client):
    values = [2e-05, 1e-300, 0.1, 1e16, 5e-324, 123456789.125, 1.7976931348623157e308, -0.0]
    fields = [f"f{place}" for place in range(len(values))]
    pairs = [part for field, value in zip(fields, values) for part in (field, repr(value))]
    client.execute_command("ML.FEATURESET", "r", "FIELDS", len(values), *pairs)
    (view,) = as_map(client.execute_command("ML.FEATUREINFO", "r"))[b"views"]
    assert {kind for _, kind in as_map(view)[b"fields"]} == {b"F64"}
    read, status = tensor(client, ["r"], fields, "TYPE", "F64")
    assert read.tolist() == [values] and status.all()
    answers = client.execute_command("ML.FEATURES", "r", *fields)
    assert [float(answer) for answer in answers] == values
