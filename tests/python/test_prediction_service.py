"""The prediction service of examples/, and its load."""

import asyncio
import subprocess
import sys
import time

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
    client.execute_command("ML.CACHEVERSIONSET", "test", "CLEAR")
    yield client
    client.execute_command("ML.CACHEVERSIONSET", "test", "CLEAR")
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
    start = time.monotonic()
    answers = asyncio.run(
        predict_all(port, model, [{}] * 50, wait_ms=20_000, backoff_ms=60_000)
    )
    assert time.monotonic() - start < 10, "they were told before their wait was over"
    assert model.calls == 1
    assert sorted({type(answer).__name__ for answer in answers}) == ["Busy", "ValueError"]
    busy = next(answer for answer in answers if isinstance(answer, Busy))
    assert 0 < busy.retry_after_ms <= 60_000


def test_an_answer_that_json_cannot_hold_is_a_failure_too(server, port):
    async def model(_features):
        return object()

    [answer] = asyncio.run(predict_all(port, model, [{}], backoff_ms=60_000))
    assert isinstance(answer, TypeError)
    [answer] = asyncio.run(predict_all(port, model, [{}]))
    assert isinstance(answer, Busy) and answer.retry_after_ms > 5_000, "a backoff, not a lease"


def test_a_model_that_fails_leaves_the_last_answer(server, port, caplog):
    model = Model(seconds=0)
    settings = {"ttl_s": 1, "stale_ms": 60_000, "backoff_ms": 60_000}
    assert asyncio.run(predict_all(port, model, [{"n": 1}], **settings)) == [{"n": 1}]
    time.sleep(1.1)
    model.error = ValueError("out of memory")
    for _ in range(2):
        assert asyncio.run(predict_all(port, model, [{"n": 1}], **settings)) == [{"n": 1}]
    assert model.calls == 2
    assert "out of memory" in caplog.text


def test_when_a_request_is_cancelled_the_next_one_computes(server, port):
    model = Model(seconds=1)

    async def requests():
        client = redis.asyncio.Redis(port=port)
        predictions = Predictions(client, "test", "v1", model, wait_ms=4_000, backoff_ms=60_000)
        tasks = []
        for _ in range(4):  # The first computes, the others wait, in this order.
            tasks.append(asyncio.create_task(predictions.predict({"n": 1})))
            await asyncio.sleep(0.05)
        for gone in (tasks[1], tasks[0]):
            gone.cancel()
            await asyncio.sleep(0.05)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose()
        return answers

    answers = asyncio.run(requests())
    assert [type(answer).__name__ for answer in answers[:2]] == ["CancelledError"] * 2
    assert answers[2:] == [{"n": 1}] * 2
    assert model.calls == 2


def test_a_wait_that_is_over_is_told_as_busy(server, port):
    model = Model(seconds=1)
    answers = asyncio.run(predict_all(port, model, [{}] * 2, wait_ms=20))
    assert sorted(type(answer).__name__ for answer in answers) == ["Busy", "dict"]


def test_a_retired_version_is_told_as_such_and_the_new_one_computes(server, port):
    old, new = Model(seconds=0), Model(seconds=0)
    assert asyncio.run(predict_all(port, old, [{}])) == [{}]
    server.execute_command("ML.CACHEVERSIONSET", "test", "v2")
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
