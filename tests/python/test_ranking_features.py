"""examples/ranking_features.py: what users copy from really works."""

import os
import subprocess
import sys

import numpy
import pytest
import redis

from conftest import ROOT

EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))

from ranking_features import NOT_FOUND, PRESENT, TOO_OLD, Features  # noqa: E402

NOW = 1_700_000_000_000


def test_the_example_runs(client, port):
    environment = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{port}"}
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "ranking_features.py"],
        env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == "a replayed batch changed 0 of 200 items"
    assert lines[1].startswith("200 x 50 values of float32 in ")
    assert lines[2:] == ["present: 9950", "not found: 50", "older than half an hour: 9800"]


def test_arrays_come_back_bit_by_bit(client):
    features = Features(client)
    array = numpy.random.default_rng(1).normal(size=(30, 7)).astype("f4")
    array[3, 2], array[4, 1], array[5, 0] = numpy.nan, numpy.inf, -0.0
    keys, fields = [f"k{n}" for n in range(30)], [f"f{m}" for m in range(7)]
    assert features.write("v", keys, fields, array, NOW, 60).all()
    # In another order than they were written in.
    order = numpy.random.default_rng(2).permutation(7)
    values, status = features.read(keys[::-1], [f"v:{fields[place]}" for place in order])
    assert (status == PRESENT).all()
    assert values.tobytes() == numpy.ascontiguousarray(array[::-1][:, order]).tobytes()


def test_arrays_of_any_layout_and_type_are_taken(client):
    features = Features(client)
    array = numpy.arange(12).reshape(3, 4).T  # Integers, column by column.
    keys = [f"k{n}" for n in range(4)]
    assert features.write("", keys, ["a", "b", "c"], array, NOW, 60).all()
    values, _ = features.read(keys, ["a", "b", "c"])
    assert values.tolist() == array.tolist()
    with pytest.raises(ValueError, match="shape|values"):
        features.write("", keys, ["a"], array, NOW, 60)


def test_late_missing_and_old_are_told_apart(client):
    features = Features(client)
    assert features.write("v", ["a", "b"], ["x"], [[1], [2]], NOW, 60).tolist() == [True, True]
    assert features.write("v", ["a"], ["x"], [[9]], NOW + 5, 60).tolist() == [True]
    assert features.write("v", ["a", "b"], ["x"], [[7], [8]], NOW + 1, 60).tolist() == [False, True]
    values, status = features.read(["a", "b", "c"], ["v:x", "v:y"])
    assert values[:2, 0].tolist() == [9, 8]
    assert status.tolist() == [[PRESENT, NOT_FOUND]] * 2 + [[NOT_FOUND] * 2]
    _, status = features.read(["a"], ["v:x"], max_age_ms=1_000)
    assert status.tolist() == [[TOO_OLD]]


def test_what_is_wrong_says_so(client):
    features = Features(client)
    client.set("text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        features.write("v", ["a", "text"], ["x"], [[1], [2]], NOW, 60)
    assert not client.exists("a")
    with pytest.raises(redis.ResponseError, match="AT.*max-skew"):
        features.write("v", ["a"], ["x"], [[1]], NOW * 1000, 60)
