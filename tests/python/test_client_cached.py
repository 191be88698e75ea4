"""`mlserve.cached`, `admit` and the breaker, with the pitfalls of clients as named tests."""

import asyncio
import math
import multiprocessing
import os
import signal
import socket
import threading
import time

import mlserve
import pytest
from conftest import until
from mlserve.keys import digest


@pytest.fixture
def client(url):
    with mlserve.Client.from_url(url) as client:
        yield client


@pytest.fixture
def away():
    """The address of a port at which nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{s.getsockname()[1]}"


def compute_in_process(url, ready, computed, values, forever):
    # A machine that stalls is no server that is away, and a lease outlasts its computation.
    with mlserve.Client.from_url(url, timeout=20) as client:
        lease = 3 if forever else 30

        @mlserve.cached(client, "pred", version="v1", ttl=60, lease=lease, wait=30)
        def score(text):
            with computed.get_lock():
                computed.value += 1
            if forever:
                signal.pause()
            time.sleep(0.3)
            return [text, 0.5]

        ready.wait()
        values.put(score("great"))


def test_32_processes_compute_once(url):
    context = multiprocessing.get_context("fork")
    ready, computed, values = context.Barrier(32), context.Value("i"), context.Queue()
    arguments = (url, ready, computed, values, False)
    processes = [context.Process(target=compute_in_process, args=arguments) for _ in range(32)]
    for process in processes:
        process.start()
    assert [values.get(timeout=60) for _ in processes] == [["great", 0.5]] * 32
    for process in processes:
        process.join()
    assert computed.value == 1


def test_a_holder_that_was_killed_has_one_other_compute(url, client):
    context = multiprocessing.get_context("fork")
    computed, values = context.Value("i"), context.Queue()
    holder = context.Process(
        target=compute_in_process, args=(url, threading.Event(), computed, values, True))
    holder._args[1].set()
    holder.start()
    until(lambda: computed.value == 1)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    ready = context.Barrier(4)
    others = [
        context.Process(target=compute_in_process, args=(url, ready, computed, values, False))
        for _ in range(4)
    ]
    for other in others:
        other.start()
    assert [values.get(timeout=60) for _ in others] == [["great", 0.5]] * 4
    for other in others:
        other.join()
    assert computed.value == 2


def test_a_batch_computes_only_what_is_missing(client):
    asked = []

    @mlserve.cached(client, "pred", version="v1", batch=True)
    def scores(texts):
        asked.append(texts)
        return [len(text) for text in texts]

    @mlserve.cached(client, "pred", version="v1")
    def score(text):
        asked.append(text)
        return len(text)

    assert scores(["a", "bb", "a"]) == [1, 2, 1]
    assert scores(["ccc", "bb"]) == [3, 2]
    assert score("ccc") == 3
    assert asked == [["a", "bb"], ["ccc"]]


def test_an_error_gives_the_lease_back(client):
    @mlserve.cached(client, "pred", version="v1", key=lambda x: "same", lease=60)
    def divided(x):
        return 1 / x

    with pytest.raises(ZeroDivisionError):
        divided(0)
    assert divided(1) == 1.0  # at once


def test_a_retired_version_is_computed_without_the_cache(client):
    client.cacheversionset("pred", ["v2"])
    try:
        score = mlserve.cached(client, "pred", version="v1")(lambda x: x)
        assert [score(1), score(1)] == [1, 1]
    finally:
        client.cacheversionset("pred", None)


def test_what_json_changes_is_refused(client):
    with pytest.raises(TypeError, match="serializer="):
        mlserve.cached(client, "pred", version="v1")(lambda: (1, 2))()


def test_pitfall_clients_3_different_arguments_have_different_keys():
    different = [
        ("x:y", "z"), ("x", "y:z"), ("x",), "x", b"x", 1, 1.0, True, "1", None, "None",
        "\u00e9", "e\u0301", [1, 2], (1, 2), [[1], 2], {"a": 1}, [("a", 1)], {1}, float("nan"),
    ]  # fmt: skip
    assert len({digest(value) for value in different}) == len(different)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(0.0) == digest(-0.0)
    assert digest("\u00e9", "NFC") == digest("e\u0301", "NFC")
    with pytest.raises(TypeError, match="has no key"):
        digest(object())


def test_arguments_count_by_position_and_name_alike(client):
    asked = []

    @mlserve.cached(client, "pred", version="v1", ignore=["trace"])
    def score(text, top=1, trace=None):
        asked.append(text)
        return text

    score("a"), score("a", 1), score(text="a", top=1, trace=object())
    assert asked == ["a"]
    with pytest.raises(ValueError, match="'other'"):
        mlserve.cached(client, "pred", version="v1", ignore=["other"])(lambda x: x)


def test_pitfall_clients_4_a_cancelled_holder_gives_its_lease_back(url):
    async def main():
        async with mlserve.aio.Client.from_url(url) as client:
            started, calls = asyncio.Event(), []

            @mlserve.cached(client, "pred", version="v1", lease=60, wait=20)
            async def score(text):
                calls.append(text)
                started.set()
                if len(calls) == 1:
                    await asyncio.Event().wait()
                return 1

            holder = asyncio.create_task(score("a"))
            await started.wait()
            waiter, patient = (asyncio.create_task(score("a")) for _ in range(2))
            keys = await client.command("KEYS", "*")
            assert keys == []
            waiter.cancel()  # a cancelled waiter takes nothing with it
            holder.cancel()
            assert await asyncio.wait_for(patient, 10) == 1
            assert len(calls) == 2

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["allow", "deny", "raise"])
def test_pitfall_clients_1_the_server_is_down(away, policy):
    with mlserve.Client.from_url(away, timeout=0.2) as client:
        score = mlserve.cached(client, "pred", version="v1", on_error=policy)(lambda x: x)
        limited = mlserve.limit("1/minute", key="k")

        def entered():
            with mlserve.admit(client, limited, on_error=policy) as admission:
                return admission.decision

        if policy == "allow":
            assert score(7) == 7
            assert entered() is None
        else:
            error = mlserve.Busy if policy == "deny" else mlserve.Unavailable
            for call in [lambda: score(7), entered]:
                with pytest.raises(error):
                    call()


def test_the_breaker_opens_and_a_probe_closes_it(away, url):
    breaker = mlserve.Breaker(failures=2, cooldown=0.05)

    def fail(error):
        with breaker.watching():
            raise error

    for _ in range(2):
        with pytest.raises(mlserve.Unavailable, match="away"):
            fail(mlserve.Unavailable("away"))
    with pytest.raises(mlserve.CircuitOpen):
        fail(AssertionError)
    until(lambda: time.monotonic() > breaker._until)
    with breaker.watching(), pytest.raises(mlserve.CircuitOpen), breaker.watching():
        pass  # one probe at a time
    assert not breaker.is_open


def test_admit_settles_what_it_really_cost(client):
    def used(key):
        info = client.limitinfo(key)
        return info.windows[0].used if info.windows else info.in_use

    tokens = mlserve.limit("100/minute", key="{a}:t", cost=40)
    slots = mlserve.permit(1, key="{a}:s")
    with mlserve.admit(client, tokens, slots, hold=60) as admission:
        assert (used("{a}:t"), used("{a}:s")) == (40, 1)
        with pytest.raises(mlserve.Busy), mlserve.admit(client, slots, hold=60):
            pass
        admission.actual(70)
    assert used("{a}:t") == 70 and client.limitinfo("{a}:s") is None
    with pytest.raises(mlserve.Limited) as denied, mlserve.admit(client, tokens, hold=60):
        pass
    assert 0 < denied.value.retry_after <= 60
    free = mlserve.limit("100/minute", key="{a}:t", cost=30)
    with pytest.raises(ZeroDivisionError), mlserve.admit(client, free, hold=60):
        1 / 0
    assert used("{a}:t") == 70


def test_a_hold_is_renewed_while_the_block_runs(url, client):
    slots = mlserve.permit(1, key="s")
    with mlserve.admit(client, slots, hold=4) as admission:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with pytest.raises(mlserve.Busy), mlserve.admit(client, slots, hold=4):
                pass
        assert not admission.lost

    async def main():
        async with mlserve.aio.Client.from_url(url) as client:
            async with mlserve.admit(client, slots, hold=4):
                await asyncio.sleep(5)
                with pytest.raises(mlserve.Busy):
                    await mlserve.admit(client, slots, hold=4).__aenter__()
            async with mlserve.admit(client, slots, hold=4):
                pass

    asyncio.run(main())


def test_pitfall_clients_6_counts_cannot_be_mistaken(client):
    assert mlserve.limit("10/5 seconds; 1000 per day", key="k").policies == [(10, 5), (1000, 86400)]
    assert mlserve.limit("100/minute", key="k").policies == [(100, 60)]
    for wrong in ["100", "100/0 minutes", "-1/minute", "1.5/minute", "100/month", "minute", ""]:
        with pytest.raises(ValueError, match="rate"):
            mlserve.limit(wrong, key="k")
    for wrong in ["10/minute; 20/60 seconds", (1, "DAY", 2, "DAY")]:
        with pytest.raises(ValueError, match="rate must name each window once"):
            mlserve.limit(*([wrong] if isinstance(wrong, str) else wrong), key="k")
    for wrong in [(100,), (1, 60, 2), ("1/minute", 60), ("1/minute", 9, 60)]:
        with pytest.raises((TypeError, ValueError), match="rate must be text|limit must be"):
            mlserve.limit(*wrong, key="k")
    for wrong in ["month", "1", 0, -1, math.nan, 4e7, None, [60]]:
        with pytest.raises(ValueError, match="window must be seconds"):
            mlserve.limit(100, wrong, key="k")
    with pytest.raises(ValueError, match='limit.1000, "MONTH"'):
        mlserve.limit("1000/month", key="k")
    with pytest.raises(ValueError, match="cost"):
        mlserve.limit("100/minute", key="k", cost=-1)
    with pytest.raises(TypeError, match="cost"):
        mlserve.limit("100/minute", key="k", cost=True)
    with pytest.raises(ValueError, match="hold"):
        mlserve.admit(client, mlserve.permit(1, key="k"))
    assert mlserve.micros("0.0125") == 12_500 and mlserve.micros("0.0000001") == 1


def test_fastapi_answers_429_and_503(url):
    import mlserve.fastapi
    from fastapi import Depends, FastAPI
    from starlette.testclient import TestClient

    client = mlserve.aio.Client.from_url(url)
    app = FastAPI()
    mlserve.fastapi.install(app)

    def by_user(request):
        return mlserve.limit("1/minute", key=f"user:{request.query_params['user']}")

    @app.get("/", dependencies=[Depends(mlserve.fastapi.admitted(client, by_user))])
    async def root():
        return "in"

    full = mlserve.fastapi.admitted(client, lambda _: mlserve.permit(0, key="gpu"), hold=5)

    @app.get("/full", dependencies=[Depends(full)])
    async def at_full():
        return "in"

    with TestClient(app) as web:
        answer = web.get("/?user=1")
        assert (answer.status_code, answer.json()) == (200, "in")
        assert answer.headers["RateLimit-Policy"] == '"1-in-60s";q=1;w=60'
        assert answer.headers["RateLimit"] == '"1-in-60s";r=0;t=60'
        answer = web.get("/?user=1")
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit"].startswith('"1-in-60s";r=0;t=')
        assert web.get("/?user=2").status_code == 200
        assert web.get("/full").status_code == 503


def test_what_a_call_cost_is_said_of_its_limits(client):
    one, other = (mlserve.limit("100/minute", key=key) for key in ("one", "other"))
    with mlserve.admit(client, one, other, mlserve.permit(1, key="s"), hold=60) as admission:
        with pytest.raises(ValueError, match="by key"):
            admission.actual(3)
        with pytest.raises(ValueError, match="'s'"):
            admission.actual({"s": 3})
        admission.actual({"other": 7})
    used = {key: client.limitinfo(key).windows[0].used for key in ("one", "other")}
    assert used == {"one": 1, "other": 7}
