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
