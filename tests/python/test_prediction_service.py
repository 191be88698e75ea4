"""The prediction service of examples/, and its load."""

import asyncio
import subprocess
import sys

import pytest
import redis
import redis.asyncio
from conftest import ROOT

sys.path.insert(0, str(ROOT / "examples"))
import prediction_service  # noqa: E402
from prediction_service import Busy, Predictions, Retired  # noqa: E402


class Model:
    """Counts its calls; waits, fails, or answers with its input."""

    def __init__(self, seconds=0.2, error=None):
        self.calls = 0
        self.seconds = seconds
        self.error = error

    async def __call__(self, features):
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return features


async def predict_all(port, model, inputs, **settings):
    """What each of these predictions comes to, all asked for at once."""
    client = redis.asyncio.Redis(port=port, max_connections=len(inputs) + 1)
    predictions = Predictions(client, "test", settings.pop("version", "v1"), model, **settings)
    try:
        tasks = (predictions.predict(features) for features in inputs)
        return await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await client.aclose()


@pytest.fixture
def server(port):
    client = redis.Redis(port=port)
    client.flushall()
    client.execute_command("ML.CACHEVERSION", "test", "CLEAR")
    yield client
    client.execute_command("ML.CACHEVERSION", "test", "CLEAR")
    client.close()


def test_two_hundred_requests_for_one_answer_call_the_model_once(server, port):
    model = Model()
    answers = asyncio.run(predict_all(port, model, [{"text": "x"}] * 200, wait_ms=20_000))
    assert answers == [{"text": "x"}] * 200
    assert model.calls == 1
    again = asyncio.run(predict_all(port, model, [{"text": "x"}, {"text": "y"}]))
    assert again == [{"text": "x"}, {"text": "y"}]
    assert model.calls == 2


def test_a_model_that_fails_is_left_in_peace_and_nobody_hangs(server, port):
    model = Model(error=ValueError("no such feature"))
    answers = asyncio.run(
        predict_all(port, model, [{}] * 50, wait_ms=20_000, backoff_ms=60_000)
    )
    assert model.calls == 1
    assert sorted({type(answer).__name__ for answer in answers}) == ["Busy", "ValueError"]
    busy = next(answer for answer in answers if isinstance(answer, Busy))
    assert 0 < busy.retry_after_ms <= 60_000


def test_a_wait_that_is_over_is_told_as_busy(server, port):
    model = Model(seconds=1)
    answers = asyncio.run(predict_all(port, model, [{}] * 2, wait_ms=20))
    assert sorted(type(answer).__name__ for answer in answers) == ["Busy", "dict"]


def test_a_retired_version_is_told_as_such_and_the_new_one_computes(server, port):
    old, new = Model(seconds=0), Model(seconds=0)
    assert asyncio.run(predict_all(port, old, [{}])) == [{}]
    server.execute_command("ML.CACHEVERSION", "test", "SET", "v2")
    [retired] = asyncio.run(predict_all(port, old, [{}]))
    assert isinstance(retired, Retired) and "v1" in str(retired)
    assert asyncio.run(predict_all(port, new, [{}], version="v2")) == [{}]
    assert (old.calls, new.calls) == (1, 1)


def test_the_app_is_made_only_when_asked_for():
    try:
        import fastapi  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError):
            prediction_service.app  # noqa: B018
    else:
        assert prediction_service.create_app().routes


def test_the_load_shows_fewer_model_calls(server, port):
    output = subprocess.run(
        [sys.executable, str(ROOT / "examples/prediction_load.py"), "--port", str(port),
         "--clients", "50", "--seconds", "1.5"],
        check=True, capture_output=True, text=True, timeout=120,
    ).stdout
    print(output)
    rows = [line.split() for line in output.splitlines() if line.count(" ") > 4]
    calls = {row[0]: int(row[2]) for row in rows if row[0] in ("no_cache", "get_and_set", "cachefetch")}
    assert calls["cachefetch"] < calls["get_and_set"] < calls["no_cache"], output
    assert server.keys("mlserve-load:*") == []
