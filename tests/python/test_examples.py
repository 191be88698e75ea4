"""The examples that are services, or run by themselves, each by its one command."""

import asyncio
import contextlib
import subprocess
import sys
import time

import httpx
import mlserve
import numpy
import pytest
from conftest import ROOT, free_port, patient, until

EXAMPLES = ROOT / "examples"
WORDS = "one two three four five six seven eight nine ten"


@pytest.fixture
def client(url):
    with mlserve.Client.from_url(url) as client:
        yield client


@pytest.fixture
def serve(url, tmp_path):
    """Serves an example by uvicorn; where it is."""
    with contextlib.ExitStack() as stack:

        def serve(name):
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "--factory", f"{name}:app"]
            with (tmp_path / "log").open("wb") as log:
                process = stack.enter_context(
                    subprocess.Popen(
                        [*command, "--port", str(port)],
                        cwd=EXAMPLES,
                        env=patient(REDIS_URL=url),
                        stdout=log,
                        stderr=log,
                    )
                )
            stack.callback(process.terminate)

            def answers():
                assert process.poll() is None, (tmp_path / "log").read_text()
                with contextlib.suppress(httpx.ConnectError):
                    return httpx.get(f"http://127.0.0.1:{port}/openapi.json").status_code == 200

            until(answers, seconds=60)
            return f"http://127.0.0.1:{port}"

        yield serve


def test_the_prediction_service(serve, client):
    client.command("HSET", "user:123", "avg_order", "84.50", "n_sessions", "0")
    client.stats("CACHE", reset=True)  # What other tests have left.
    with httpx.Client(base_url=serve("prediction_service"), timeout=30) as web:

        def urgency(user, text="It leaks and the handle is uncomfortable."):
            return web.get("/urgency", params={"user": user, "text": text})

        answer = urgency("123")
        assert answer.status_code == 200, answer.text
        assert answer.headers["RateLimit-Policy"] == '"100-in-60s";q=100;w=60'
        first = answer.json()
        assert 0 < first["p_good"] < 1
        assert first["urgency"] == pytest.approx((1 - first["p_good"]) * 84.5)
        assert urgency("123").json() == first
        # Who has no features is still answered; the prediction was there.
        assert urgency("124").json() == {**first, "urgency": 0}
        counts = client.stats("CACHE")["cache"][b"pred"]
        assert (counts["misses"], counts["hits"]) == (1, 2)

        client.ratelimit("rate:user:123", 100, 60, cost=98)
        denied = urgency("123")
        assert denied.status_code == 429
        assert 0 < int(denied.headers["Retry-After"]) <= 60
        assert urgency("124").status_code == 200


def completion(web, prompt, max_tokens=10, key="acme-key"):
    call = {"prompt": prompt, "max_tokens": max_tokens}
    headers = {"Authorization": f"Bearer {key}"}
    return web.stream("POST", "/v1/completions", json=call, headers=headers)


async def lines_of(answer):
    return [line async for line in answer.aiter_lines() if line]


def test_the_gateway_streams_charges_what_was_said_and_caches(serve, client):
    async def calls():
        async with httpx.AsyncClient(base_url=serve("llm_gateway"), timeout=60) as web:

            async def used(key="acme-key"):
                answer = await web.get("/v1/budget", headers={"Authorization": f"Bearer {key}"})
                return answer.json()

            said = [f'data: "{word}"' for word in WORDS.split()[:4]]
            async with completion(web, WORDS, 4) as answer:
                assert (answer.status_code, answer.headers["X-Cache"]) == (200, "MISS")
                assert await lines_of(answer) == [*said, "event: done", "data: 4"]
            spent = {"tokens": 10 + 4, "micros": 10 * 3 + 4 * 15}
            await asyncio.to_thread(until, lambda: client.limitinfo("{parrot-1}:slots") is None)
            assert await used() == spent

            async with completion(web, WORDS, 4) as answer:
                assert answer.headers["X-Cache"] == "HIT"
                assert await lines_of(answer) == [*said, "event: done", "data: 4"]
            assert await used() == spent, "a hit costs nothing"
            async with completion(web, WORDS, 4, "globex-key") as answer:
                assert answer.headers["X-Cache"] == "MISS", "nobody reads another's answers"
                await answer.aread()

            # More than is left of the minute is denied at once, though others wait for slots.
            client.ratelimit("{acme}:tokens", 2_000, 60, cost=1_900)
            async with completion(web, "too much", 500) as answer:
                assert answer.status_code == 429
                assert 0 < int(answer.headers["Retry-After"]) <= 60
            async with completion(web, WORDS, 4, "nobody's") as answer:
                assert answer.status_code == 401

    asyncio.run(calls())


def test_the_gateway_has_calls_wait_for_a_slot_and_a_caller_hang_up(serve, client):
    def slots():
        return client.limitinfo("{parrot-1}:slots")

    async def calls():
        async with (
            httpx.AsyncClient(base_url=serve("llm_gateway"), timeout=60) as web,
            contextlib.AsyncExitStack() as stack,
        ):

            async def begun(prompt, key="acme-key"):
                answer = await stack.enter_async_context(completion(web, prompt, 900, key))
                lines = answer.aiter_lines()  # To be kept: an answer is closed with them.
                assert await anext(lines) == f'data: "{prompt}"'
                return answer, lines

            # The minute has room for two such calls of a tenant.
            one = await begun("a")
            other = await begun("b")
            assert slots().in_use == 2
            third = asyncio.create_task(begun("c", "globex-key"))
            await asyncio.to_thread(until, lambda: slots().waiters == 1)
            assert not third.done()
            await one[0].aclose()
            await third
            assert (slots().in_use, slots().waiters) == (2, 0)
            # What the first caller has not heard is not charged: 900 were asked for each.
            used = client.limitinfo("{acme}:tokens").windows[0].used
            assert 901 < used < 1_802
            await other[0].aclose()

    asyncio.run(calls())


def test_ranking(url):
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "ranking.py"],
        env=patient(REDIS_URL=url), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == "a batch that comes late changed 0 of 200 items"
    assert lines[1].startswith("200 × 50 values of float32 in ")
    assert lines[2:5] == ["present: 9950", "not found: 50", "older than half an hour: 9800"]
    best = [float(line.split()[1]) for line in lines[5:]]
    assert best == sorted(best, reverse=True)
    assert 0.5 < best[0] <= 1


def test_a_session(url):
    for _ in range(2):  # What an earlier run has left is in nobody's way.
        ran = subprocess.run(
            [sys.executable, EXAMPLES / "session.py"],
            env=patient(REDIS_URL=url), capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines() == [
            "30 of 30 events were new, and 0 when they came again",
            "2 × 33 numbers of 7 fields",
            "viewed: [129, 128, 127, 126, 125] ...",
            "count(spend,3600): 10",
            "count(spend,2592000): 20",
            "sum(spend,3600): 20",
            "mean(spend,2592000): 4.625",
            "age: 34",
            "known of user:8: 0",
        ]


def test_arrays_of_any_layout_come_back_bit_by_bit(client):
    array = numpy.random.default_rng(1).normal(size=(7, 30)).astype("f4").T  # Column by column.
    array[3, 2], array[4, 1], array[5, 0] = numpy.nan, numpy.inf, -0.0
    keys, fields = [f"k{n}" for n in range(30)], [f"f{m}" for m in range(7)]
    assert all(client.featuremset(keys, fields, array, view="v", at=time.time(), ttl=60))
    # In another order than they were written in.
    order = numpy.random.default_rng(2).permutation(7)
    read = client.featuretensor(keys[::-1], [f"v:{fields[place]}" for place in order]).numpy()
    assert read.tobytes() == numpy.ascontiguousarray(array[::-1][:, order]).tobytes()


def test_the_support_desk_answers_nearly_the_same_question_once(url, client, monkeypatch):
    """With real embeddings, whose weights come with a package."""
    run = [sys.executable, "support_desk.py"]
    done = subprocess.run(
        run, cwd=EXAMPLES, env=patient(REDIS_URL=url), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    told = {asked: answer.strip() for asked, answer in zip(lines[:-1:2], lines[1::2], strict=True)}
    assert told["acme: How can I reset my password?"] == (
        "[acme] an answer to 'How do I reset my password?'"
    )
    asked = "acme: At what time will you open your shop this Sunday?"
    assert told[asked] == "[acme] an answer to 'When does the shop open on Sunday?'"
    # As near as can be, and other questions.
    for asked in ("Where is parcel 7714?", "Can I pay with a card?"):
        assert told[f"acme: {asked}"] == f"[acme] an answer to {asked!r}"
    assert told["globex: How do I reset my password?"].startswith("[globex]")
    assert lines[-1] == "9 of 11 were asked of the model, 1 was judged"
    assert sum(name.startswith(b"desk:") for name in client.command("KEYS", "*")) == 7

    monkeypatch.syspath_prepend(EXAMPLES)
    import support_desk

    def similarity(one, other):
        one, other = support_desk.embed(one), support_desk.embed(other)
        return one @ other / numpy.linalg.norm(one) / numpy.linalg.norm(other)

    assert similarity("How do I reset my password?", "How can I reset my password?") > 0.95
    assert similarity("Where is parcel 7741?", "Where is parcel 7714?") > 0.94
    assert similarity("How do I reset my password?", "The weather is nice today.") < 0.2
