"""mlserve.litellm, in what stands for LiteLLM's proxy; see litellm_standin."""

import asyncio
import datetime
import threading
import time
from types import SimpleNamespace

import litellm_standin as standin
import pytest
from test_client_semantic import vector

import litellm
import mlserve
import mlserve.litellm
from mlserve.litellm import MlserveCache, MlserveLimiter, MlserveSemanticCache, Settings

CACHE = SimpleNamespace(dual_cache=SimpleNamespace(default_in_memory_ttl=1))


def descriptor(value="a", key="api_key", *, rpm=None, tpm=None, slots=None, window=60):
    limits = {"requests_per_unit": rpm, "tokens_per_unit": tpm, "max_parallel_requests": slots}
    return {"key": key, "value": value, "rate_limit": {**limits, "window_size": window}}


class Worker:
    """A process of the proxy."""

    def __init__(self, url, *, fail_closed=False, **settings):
        self.limiter = MlserveLimiter(CACHE, Settings(url, **settings), fail_closed=fail_closed)

    async def admit(self, *descriptors, estimate=1, call="c", call_type="acompletion", **more):
        """Before the call; the statuses that make the headers."""
        data = {"litellm_call_id": call, "descriptors": list(descriptors), "estimate": estimate}
        await self.limiter.async_pre_call_hook(None, None, {**data, **more}, call_type)
        response = standin.get_request_stash().rate_limit_response
        return response["statuses"] if response else None

    async def succeed(self, used=0, scopes=(("api_key", "a"),), call="c"):
        kwargs = {"litellm_call_id": call, "used": used, "scopes": scopes}
        await self.limiter.async_log_success_event(kwargs, None, None, None)

    async def fail(self, used=0, call="c"):
        kwargs = {"litellm_call_id": call, "used": used}
        await self.limiter.async_log_failure_event(kwargs, None, None, None)

    async def reject(self):
        await self.limiter.async_post_call_failure_hook({}, Exception(), None)


class Store:
    """What the server holds, and how often it was asked."""

    def __init__(self, url):
        self.url = url
        self.client = mlserve.Client.from_url(url)
        self.client.command("CONFIG", "RESETSTAT")

    def info(self, kind, value="a", key="api_key"):
        return self.client.limitinfo(f"litellm:{{{key}:{value}}}:{kind}")

    def used(self, kind, value="a", key="api_key"):
        info = self.info(kind, value, key)
        return info.windows[0].used if info else 0

    def slots(self, value="a"):
        info = self.info("max_parallel_requests", value)
        return info.in_use if info else 0

    def calls(self, name):
        text = self.client.command("INFO", "commandstats")
        text = text if isinstance(text, str) else text.decode()
        for line in text.splitlines():
            if line.startswith(f"cmdstat_ML.{name}:"):
                return int(line.split("calls=")[1].split(",")[0])
        return 0


@pytest.fixture
def store(url):
    return Store(url)


def run(work):
    """A request, or several: each has its own notes."""
    return asyncio.run(work)


async def request(work):
    """Another request: in a context of its own."""

    async def apart():
        standin._stash.set(None)
        return await work

    return await asyncio.create_task(apart())


async def until(right):
    deadline = time.monotonic() + 30
    while not right():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_one_call_lets_in_and_one_settles(store):
    async def work():
        worker = Worker(store.url)
        statuses = await worker.admit(
            descriptor(rpm=10, tpm=100, slots=2),
            descriptor("t", "team", tpm=1000),
            estimate=40,
        )
        assert store.calls("ADMIT") == 1
        told = {
            (status["descriptor_key"], status["rate_limit_type"]): status["limit_remaining"]
            for status in statuses
        }
        assert told == {
            ("api_key", "requests"): 9,
            ("api_key", "max_parallel_requests"): 1,
            ("api_key", "tokens"): 60,
            ("team", "tokens"): 960,
        }
        assert store.slots() == 1
        await worker.succeed(25, [("api_key", "a"), ("team", "t"), ("user", "no limit")])
        assert store.calls("SETTLE") == 1
        assert (store.used("requests"), store.used("tokens")) == (1, 25)
        assert (store.used("tokens", "t", "team"), store.slots()) == (25, 0)
        assert not store.info("tokens").holds

    run(work())


def test_what_is_denied_has_taken_nothing(store):
    async def work():
        worker = Worker(store.url)
        await request(worker.admit(descriptor(tpm=100), estimate=100))

        async def denied():
            with pytest.raises(standin.ProxyRateLimitError) as caught:
                await worker.admit(descriptor(rpm=10, tpm=100, slots=1), estimate=1, model="gpt")
            # What LiteLLM does next.
            await worker.reject()
            return caught.value

        error = await request(denied())
        assert (error.rate_limit_type, error.descriptor_key) == ("tokens", "api_key")
        assert (error.model, error.llm_provider) == ("gpt", "openai")
        assert (store.used("requests"), store.slots()) == (0, 0)
        assert store.used("tokens") == 100
        assert not worker.limiter.rate_limits.counts

    run(work())


def test_a_denial_tells_the_wait_that_the_server_told(store):
    async def work():
        worker = Worker(store.url)
        await request(worker.admit(descriptor(rpm=1, window=5)))
        with pytest.raises(standin.ProxyRateLimitError) as caught:
            await worker.admit(descriptor(rpm=1, window=5))
        headers = caught.value.headers
        assert 1 <= int(headers["retry-after"]) <= 5
        at = datetime.datetime.strptime(headers["reset_at"], "%Y-%m-%d %H:%M:%S UTC")  # noqa: DTZ007
        assert abs(at.timestamp() - datetime.datetime.utcnow().timestamp()) < 7  # noqa: DTZ003
        assert headers["reset_at"] in caught.value.detail
        # What can never be let in is told LiteLLM's wait.
        with pytest.raises(standin.ProxyRateLimitError) as caught:
            await worker.admit(descriptor("b", tpm=10), estimate=11)
        assert caught.value.headers["retry-after"] == "60"

    run(work())


def test_a_failure_gives_tokens_and_slot_back_and_the_request_stands(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(rpm=10, tpm=100, slots=1), estimate=40)
        await worker.fail()
        assert store.calls("SETTLE") == 1
        assert (store.used("requests"), store.used("tokens"), store.slots()) == (1, 0, 0)

    run(work())


def test_a_rejection_after_the_admission_gives_back(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(tpm=100, slots=1), estimate=40)
        await worker.reject()
        await worker.fail()
        assert (store.used("tokens"), store.slots()) == (0, 0)

    run(work())


def test_a_stream_that_breaks_off_costs_what_it_used(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(tpm=100, slots=1), estimate=40)
        await worker.fail(used=7)
        assert (store.used("tokens"), store.slots()) == (7, 0)

    run(work())


def test_usage_as_estimated_ends_the_hold_too(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(tpm=100), estimate=40)
        await worker.succeed(40)
        assert store.used("tokens") == 40
        assert not store.info("tokens").holds

    run(work())


def test_usage_beyond_the_limit_is_charged(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(tpm=100), estimate=40)
        await worker.succeed(140)
        assert store.used("tokens") == 140

    run(work())


def test_the_slot_is_free_as_the_answer_leaves_and_nobody_elses_is_freed(store):
    async def work():
        worker = Worker(store.url)

        async def one():
            await worker.admit(descriptor(tpm=100, slots=2), estimate=40)
            await worker.limiter.async_post_call_success_hook({}, None, None)
            await worker.limiter.async_release_max_parallel_requests_on_disconnect(None)
            assert store.used("tokens") == 40
            await worker.succeed(5)
            await worker.succeed(0)

        await worker.admit(descriptor(slots=2), call="other")
        await request(one())
        assert (store.used("tokens"), store.slots()) == (5, 1)

    run(work())


def test_who_hangs_up_frees_the_slot(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(slots=1))
        await worker.limiter.async_release_max_parallel_requests_on_disconnect(None)
        assert store.slots() == 0

    run(work())


def test_a_second_attempt_is_charged_what_it_used(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(tpm=100), estimate=40)
        await worker.fail()
        await worker.succeed(30)
        assert store.used("tokens") == 30

    run(work())


def test_a_call_within_a_call_is_charged_and_settles_nothing_else(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(tpm=100), estimate=40)
        await worker.succeed(9, call="a guardrail's")
        assert store.used("tokens") == 49
        assert store.info("tokens").holds
        await worker.succeed(11)
        assert store.used("tokens") == 20

    run(work())


def test_hundreds_at_once_in_two_workers_are_exactly_the_limit(store):
    async def work():
        workers = [Worker(store.url), Worker(store.url)]
        wanted = [
            request(workers[turn % 2].admit(descriptor(rpm=100, tpm=1_000_000), estimate=9))
            for turn in range(400)
        ]
        outcomes = await asyncio.gather(*wanted, return_exceptions=True)
        denied = [one for one in outcomes if isinstance(one, standin.ProxyRateLimitError)]
        assert len(denied) == 300
        assert (store.used("requests"), store.used("tokens")) == (100, 900)

    run(work())


def test_a_hold_is_renewed_while_the_request_lives(store):
    async def work():
        worker = Worker(store.url, hold=3)
        await worker.admit(descriptor(tpm=100, slots=1), estimate=40)
        await until(lambda: store.calls("RENEW") >= 2)
        assert store.slots() == 1
        await worker.succeed(3)
        assert (store.used("tokens"), store.slots()) == (3, 0)
        # Nothing is held, and nothing is renewed.
        await until(lambda: worker.limiter._renewing.done())

    run(work())


def test_a_request_that_is_forgotten_is_renewed_no_more(store):
    async def work():
        worker = Worker(store.url, hold=0.2)
        await request(worker.admit(descriptor(tpm=100, slots=1), estimate=40))
        await until(lambda: store.slots() == 0)
        assert store.used("tokens") == 40
        await until(lambda: worker.limiter._renewing.done())

    run(work())


def test_a_hold_is_renewed_for_an_hour_at_most(store):
    async def work():
        worker = Worker(store.url, hold=0.2)
        await worker.admit(descriptor(slots=1))
        worker.limiter._newest(standin.get_request_stash()).since -= 3601
        await until(lambda: store.slots() == 0)

    run(work())


def test_a_worker_that_dies_keeps_no_slot(store):
    async def work():
        await Worker(store.url, hold=3).admit(descriptor(slots=1))

    run(work())
    assert store.slots() == 1

    async def another():
        await until(lambda: store.slots() == 0)
        await Worker(store.url).admit(descriptor(slots=1))

    run(another())


def test_a_busy_event_loop_is_no_server_that_is_away(store):
    async def work():
        worker = Worker(store.url, timeout=2)
        await worker.admit(descriptor("warm", rpm=1))
        asking = asyncio.create_task(request(worker.admit(descriptor(rpm=10))))
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(3)  # noqa: ASYNC251 # The worker is busy.
        await asking
        assert store.used("requests") == 1

    run(work())


def test_while_the_server_is_away_each_worker_counts(free_port):
    async def work():
        worker = Worker(f"redis://127.0.0.1:{free_port}")
        for _ in range(2):
            await request(worker.admit(descriptor(rpm=2, tpm=100), estimate=40))
        with pytest.raises(standin.ProxyRateLimitError):
            await request(worker.admit(descriptor(rpm=2)))

        async def settled():
            await worker.admit(descriptor("b", tpm=100), estimate=40)
            await worker.succeed(7, [("api_key", "b")])

        await request(settled())
        counter = standin.RateLimitScope("api_key", "b").counter("tokens")
        assert worker.limiter.rate_limits.counts[counter] == 7

    run(work())


def test_while_the_server_is_away_who_must_not_count_alone_is_refused(free_port):
    async def work():
        worker = Worker(f"redis://127.0.0.1:{free_port}", fail_closed=True)
        with pytest.raises(standin.Unverifiable):
            await worker.admit(descriptor(rpm=2, slots=1))
        assert standin.get_request_stash().parallel_slot is None
        assert not worker.limiter.rate_limits.counts

    run(work())


def test_a_server_that_does_not_answer_holds_nobody_up(store):
    async def work():
        worker = Worker(store.url, timeout=0.2)
        await worker.admit(descriptor("warm", rpm=1))
        # Of writes, so that it can be ended.
        store.client.command("CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            begun = time.monotonic()
            for _ in range(100):
                await request(worker.admit(descriptor(rpm=1000)))
            # Five wait for the time-out; then the circuit is open. Else it were 20 s.
            assert time.monotonic() - begun < 15
        finally:
            store.client.command("CLIENT", "UNPAUSE")
        deadline = time.monotonic() + 30
        while store.used("requests", "after") == 0:
            assert time.monotonic() < deadline
            await request(worker.admit(descriptor("after", rpm=100_000)))

    run(work())


def test_a_call_that_is_cancelled_while_it_is_let_in_gives_back(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor("warm", rpm=1))
        asked = worker.admit(descriptor(tpm=100, slots=1), estimate=40)
        asking = asyncio.create_task(request(asked))
        while store.slots() == 0:
            # It is let in by the thread of the calls, of which this loop has not heard yet.
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (store.used("tokens"), store.slots()) == (0, 0)

    run(work())


def test_an_error_before_the_decision_leaves_no_trace(store):
    async def work():
        worker = Worker(store.url)
        with pytest.raises(RuntimeError):
            await worker.admit(descriptor(tpm=100, slots=1), breaks=True)
        assert store.calls("ADMIT") == store.calls("SETTLE") == 0
        await worker.reject()
        assert standin.get_request_stash().parallel_slot is None

    run(work())


def test_slots_for_a_while_without_a_request(store):
    async def work():
        limiter = Worker(store.url).limiter
        asked = {"descriptors": [descriptor(rpm=5, slots=1)], "skip_tpm_check": True}
        id = mlserve.calls.new_id()
        taken = await limiter.should_rate_limit(**asked, parallel_slot_id=id)
        assert taken["overall_code"] == "OK"
        again = await limiter.should_rate_limit(**asked, parallel_slot_id=mlserve.calls.new_id())
        assert again["overall_code"] == "OVER_LIMIT"
        assert [one["code"] for one in again["statuses"]] == ["OK", "OVER_LIMIT"]
        gauges = (standin.RateLimitScope("api_key", "a"),)
        await limiter._release_parallel_request_slots({"slot_id": id, "gauges": gauges})
        assert (store.slots(), store.used("requests")) == (0, 1)

    run(work())


def test_looking_takes_nothing(store):
    async def work():
        limiter = Worker(store.url).limiter
        for limit, code in [(1, "OK"), (1, "OK"), (0, "OVER_LIMIT")]:
            asked = [descriptor(rpm=limit, tpm=10, slots=1)]
            assert (await limiter.should_rate_limit(asked, read_only=True))["overall_code"] == code
        assert store.used("requests") == 0

    run(work())


def test_a_batch_that_fails_gets_its_tokens_back(store):
    async def work():
        worker = Worker(store.url)
        await worker.admit(descriptor(tpm=5000), estimate=4000, call_type="acreate_batch")
        assert store.used("tokens") == 4000
        await worker.reject()
        assert store.used("tokens") == 0

    run(work())


def test_descriptors_never_share_a_key(store):
    async def work():
        worker = Worker(store.url)
        values = ["a", "a:tokens", "a}", "\udcff", "ä", "a\u0308", ""]
        for value in values:
            await request(worker.admit(descriptor(value, rpm=1, tpm=9)))
        await request(worker.admit(descriptor("a:requests", "user", rpm=1)))
        assert store.client.command("DBSIZE") == 2 * len(values) + 1

    run(work())


def test_of_two_limits_on_one_key_the_smaller_counts(store):
    async def work():
        worker = Worker(store.url)
        for limits in [(2, 1), (1, 2)]:
            with pytest.raises(standin.ProxyRateLimitError):
                for _ in range(2):
                    await request(worker.admit(*[descriptor(limits[0], rpm=rpm) for rpm in limits]))

    run(work())


def test_fixed_windows_where_they_are_asked_for(store):
    run(Worker(store.url, algorithm="FIXED").admit(descriptor(rpm=5)))
    assert store.info("requests").algorithm == "FIXED"


# --- the proxy's configuration ------------------------------------------------


@pytest.fixture
def configured(monkeypatch, url):
    def configured(**settings):
        monkeypatch.setattr(litellm, "callback_settings", {"mlserve": settings})
        monkeypatch.setattr(litellm, "cache", None)
        monkeypatch.setitem(standin.HOOKS, "parallel_request_limiter", standin.Limiter)

    return configured


def test_naming_the_limiter_puts_it_in_force(configured, store):
    configured(url=store.url, namespace="gateway")
    assert isinstance(mlserve.litellm.limiter, standin.CustomLogger)
    limiter = standin.HOOKS["parallel_request_limiter"](CACHE)
    assert isinstance(limiter, MlserveLimiter)
    run(limiter.should_rate_limit([descriptor(rpm=1)]))
    assert store.client.limitinfo("gateway:{api_key:a}:requests").windows[0].used == 1


def test_naming_the_cache_puts_it_in_force(configured, store):
    configured(url=store.url, version="7", cache_params={"mode": "default_off"})
    assert isinstance(mlserve.litellm.cache, standin.CustomLogger)
    assert litellm.cache.more == {"mode": "default_off"}
    litellm.cache.cache.set_cache("k", {"a": 1})
    assert store.client.cacheget("litellm:k", "7") == b'{"a": 1}'


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "url must be given"),
        ({"url": "redis://x", "ulr": 1}, "'ulr' is not known"),
        ({"url": "redis://x", "hold": 0}, "hold must be seconds"),
        ({"url": "redis://x", "timeout": "1"}, "timeout must be seconds"),
        ({"url": "redis://x", "algorithm": "GCRA"}, "algorithm must be"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_at_once(configured, settings, message):
    configured(**settings)
    for name in ("limiter", "cache"):
        with pytest.raises(ValueError, match=message):
            getattr(mlserve.litellm, name)


def test_no_other_name_is_made_up():
    with pytest.raises(AttributeError, match="limits"):
        mlserve.litellm.limits


def test_sentinels_and_clusters_by_their_addresses():
    assert not Settings("redis://a:1").client(mlserve.Client)._where.many
    assert Settings(["redis://a:1", "redis://b:1"]).client(mlserve.Client)._where.many
    primary = Settings("redis://mymaster", sentinels=["redis://a:1"]).client(mlserve.Client)
    assert primary._where.stale


# --- the cache ----------------------------------------------------------------

ANSWER = {"timestamp": 1.5, "response": '{"choices": ["\\ud83d\\ude00"]}'}


@pytest.fixture
def cache(url):
    return MlserveCache(url, ttl=60)


def test_threads_and_asyncio_see_the_same(cache):
    async def work():
        assert await cache.async_get_cache("k", messages=[]) is None
        await cache.async_set_cache("k", ANSWER, model="x")
        assert await cache.async_get_cache("k") == ANSWER

    run(work())
    assert cache.get_cache("k") == ANSWER
    cache.set_cache("l", [1, None, "é"])
    assert cache.get_cache("l") == [1, None, "é"]


def test_several_are_kept_in_one_call(cache, store):
    async def work():
        await cache.async_set_cache_pipeline([("a", 1), ("b", [2]), ("a", 3)], ttl=5)
        await cache.async_set_cache_pipeline([])
        await cache.batch_cache_write("c", 4)
        return [await cache.async_get_cache(key) for key in "abc"]

    assert run(work()) == [3, [2], 4]
    assert store.calls("CACHEMSET") == 1
    assert 0 < store.client.cacheinfo("litellm:a").versions[0].ttl <= 5


@pytest.mark.parametrize(
    ("asked", "ttl"),
    [
        (None, 60),
        (5, 5),
        ("7", 7),
        (8.5, 8.5),
        (datetime.timedelta(seconds=9), 9),
        ("soon", 60),
        (float("inf"), 60),
        ([], 60),
    ],
)
def test_how_long_an_answer_is_kept(cache, store, asked, ttl):
    cache.set_cache("k", 1, ttl=asked)
    assert max(ttl - 5, 0) < store.client.cacheinfo("litellm:k").versions[0].ttl <= ttl


@pytest.mark.parametrize("ttl", [0, -1, "0"])
def test_what_is_to_be_kept_no_time_is_not_kept(cache, ttl):
    cache.set_cache("k", 1, ttl=ttl)
    run(cache.async_set_cache_pipeline([("l", 1)], ttl=ttl))
    assert cache.get_cache("k") is cache.get_cache("l") is None


def test_a_version_that_is_retired_is_not_served(cache, url, store):
    new = MlserveCache(url, version="2")
    cache.set_cache("k", "old")
    assert new.get_cache("k") is None
    new.set_cache("k", "new")
    assert (cache.get_cache("k"), new.get_cache("k")) == ("old", "new")
    store.client.cacheversionset("litellm", ["2"])
    assert (cache.get_cache("k"), new.get_cache("k")) == (None, "new")
    store.client.cacheversionset("litellm", None)


def test_keys_are_deleted_with_all_versions(cache):
    for key in "abc":
        cache.set_cache(key, key)
    run(cache.delete_cache_keys(["a", "b", "z"]))
    assert [cache.get_cache(key) for key in "abc"] == [None, None, "c"]


def test_whether_the_server_is_there(cache, free_port):
    assert run(cache.test_connection())["status"] == "success"
    away = MlserveCache(f"redis://127.0.0.1:{free_port}")
    told = run(away.test_connection())
    assert told["status"] == "failed"
    assert "127.0.0.1" in told["error"]


def test_a_server_that_is_away_is_an_empty_cache(free_port):
    away = MlserveCache(f"redis://127.0.0.1:{free_port}")
    away.set_cache("k", 1)
    assert away.get_cache("k") is None

    async def work():
        await away.async_set_cache("k", 1)
        await away.async_set_cache_pipeline([("k", 1)])
        return await away.async_get_cache("k")

    assert run(work()) is None


def test_an_error_that_the_server_answers_is_told(cache, store):
    store.client.command("SET", "litellm:k", "1", keys=["litellm:k"])
    with pytest.raises(mlserve.ResponseError):
        cache.get_cache("k")
    with pytest.raises(TypeError):
        cache.set_cache("l", object())


def test_it_can_be_used_after_it_is_disconnected(cache):
    async def work():
        await cache.async_set_cache("k", 1)
        await cache.disconnect()
        return await cache.async_get_cache("k")

    assert run(work()) == 1


def test_what_the_proxy_writes_out_of_it_is_plain(cache):
    assert vars(cache) == {"default_ttl": 60}


# --- the semantic cache -------------------------------------------------------


def user(text):
    return {"role": "user", "content": text}


@pytest.fixture
def semantic(url):
    return MlserveSemanticCache(url, vector, embedder="circle", ttl=60)


def test_nearly_the_same_chat_is_answered_in_threads_and_asyncio(semantic):
    semantic.set_cache("k", ANSWER, messages=[user("at 0")], model="x")

    async def work():
        assert await semantic.async_get_cache("k", messages=[user("at 5")]) == ANSWER
        await semantic.async_set_cache("k", [1], messages=[user("at 90")])
        await semantic.batch_cache_write("k", [2], messages=[user("at 180")])
        return [
            await semantic.async_get_cache(key, messages=[user("at 0")]) for key in ("k", "other")
        ]

    assert run(work()) == [ANSWER, None]
    assert semantic.get_cache("k", messages=[user("at 85")]) == [1]
    assert semantic.get_cache("k", messages=[user("at 185")]) == [2]
    assert semantic.get_cache("k", messages=[user("at 45")]) is None


def test_what_was_said_before_is_the_scope_and_answers_may_be_objects(semantic):
    class Message:
        def model_dump(self, exclude_none):
            assert exclude_none
            return {"role": "assistant", "content": "Your films?"}

    plain = {"role": "assistant", "content": "Your films?"}
    semantic.set_cache("k", 1, messages=[user("hi"), Message(), user("cancel it 0")])
    assert semantic.get_cache("k", messages=[user("hi"), plain, user("cancel 3")]) == 1
    gym = {"role": "assistant", "content": "Your gym?"}
    for others in ([user("hi"), gym], [user("ho"), plain], [plain], []):
        assert semantic.get_cache("k", messages=[*others, user("cancel it 0")]) is None


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"messages": []},
        {"messages": None},
        {"input": "at 0"},
        {"messages": [user(" ")]},
        {"messages": [user(None)]},
        {"messages": [user([{"type": "image_url", "image_url": "a cat"}])]},
        {"messages": [user("at 0"), {"role": "tool", "content": "at 0", "tool_call_id": "1"}]},
    ],
)
def test_what_is_no_question_is_neither_found_nor_kept(semantic, store, request_):
    """The texts of embeddings are no questions: another's embedding is a wrong one."""
    semantic.set_cache("k", 1, **request_)
    assert semantic.get_cache("k", **request_) is None
    run(semantic.async_set_cache_pipeline([("a", 1)], **request_))
    assert store.client.command("DBSIZE") == 0


def test_how_similar_it_was_is_told_to_litellm(semantic):
    semantic.set_cache("k", 1, messages=[user("at 0")])
    for angle, similarity in ((0, 1), (10, 0.985), (40, 0)):
        metadata = {}
        semantic.get_cache("k", messages=[user(f"at {angle}")], metadata=metadata)
        assert metadata["semantic-similarity"] == pytest.approx(similarity, abs=0.002)
    assert semantic.get_cache("k", messages=[user("at 0")], metadata=None) == 1


def test_how_long_a_semantic_answer_is_kept(semantic, store):
    semantic.set_cache("k", 1, messages=[user("at 0")], ttl=0)
    assert semantic.get_cache("k", messages=[user("at 0")]) is None
    semantic.set_cache("k", 1, messages=[user("at 0")], ttl=0.05)
    run(until(lambda: semantic.get_cache("k", messages=[user("at 0")]) is None))


@pytest.mark.parametrize("later", [False, True])
def test_embedders_and_judges_may_be_plain_or_async(url, later):
    judged, threads = [], set()

    def same(prompt, candidate):
        judged.append((prompt, candidate.prompt))
        return prompt == "at 25"

    def embed(text):
        threads.add(threading.current_thread().name)
        return vector(text)

    async def same_later(*asked):
        return same(*asked)

    async def embed_later(text):
        return embed(text)

    cache = MlserveSemanticCache(
        url,
        embed_later if later else embed,
        embedder="circle",
        maybe=0.8,
        judge=same_later if later else same,
    )
    cache.set_cache("k", 1, messages=[user("at 0")])
    for _ in range(2):
        assert cache.get_cache("k", messages=[user("at 25")]) == 1
    assert cache.get_cache("k", messages=[user("at -25")]) is None
    assert judged == [("at 25", "at 0"), ("at -25", "at 0")]
    # A model that computes holds no event loop up.
    assert ("mlserve-litellm" in threads) == later


def test_a_semantic_cache_whose_server_is_away_is_empty(free_port):
    away = MlserveSemanticCache(f"redis://127.0.0.1:{free_port}", vector, embedder="circle")
    away.set_cache("k", 1, messages=[user("at 0")])
    assert away.get_cache("k", messages=[user("at 0")]) is None
    assert run(away.test_connection())["status"] == "failed"


def test_a_semantic_cache_is_as_plain_and_as_alive_as_the_other(semantic):
    assert vars(semantic) == {"default_ttl": 60}
    assert run(semantic.test_connection())["status"] == "success"
    run(semantic.disconnect())
    assert semantic.get_cache("k", messages=[user("at 0")]) is None
    with pytest.raises(mlserve.ResponseError, match="vector"):
        MlserveSemanticCache(
            semantic._settings.url, lambda _: [0.0] * 8, embedder="circle"
        ).get_cache("k", messages=[user("at 0")])


def test_naming_the_semantic_cache_puts_it_in_force(configured, store):
    functions = {"embed": "test_client_semantic:vector", "judge": "test_client_semantic:failing"}
    configured(
        url=store.url, version="7", ttl=60, cache_params={"mode": "default_off"},
        semantic={**functions, "embedder": "circle", "hit": 0.9, "maybe": 0.7},
    )  # fmt: skip
    assert isinstance(mlserve.litellm.semantic_cache, standin.CustomLogger)
    assert (litellm.cache.type, litellm.cache.more) == ("redis-semantic", {"mode": "default_off"})
    cache = litellm.cache.cache
    cache.set_cache("k", 1, messages=[user("at 0")])
    assert cache.get_cache("k", messages=[user("at 20")]) == 1
    assert cache.get_cache("k", messages=[user("at 40")]) is None
    [key] = store.client.command("KEYS", "*")
    assert key.startswith(b"litellm:semantic:")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "embed must be given"),
        ({"embed": "json:dumps"}, "embedder must be given"),
        ({"embed": "json", "embedder": "e"}, "'json' must be module:function"),
        ({"embed": "json:dumps", "embedder": "e", "hits": 1}, "'hits' is not known"),
        ({"embed": "json:dumps", "embedder": "e", "hit": 2}, "hit must be"),
        ({"embed": "json:dumps", "embedder": "e", "judge": "json:dumps"}, "judge needs"),
    ],
)
def test_a_mistake_in_what_is_semantic_is_told_at_once(configured, store, given, message):
    configured(url=store.url, semantic=given)
    with pytest.raises(ValueError, match=message):
        mlserve.litellm.semantic_cache  # noqa: B018


@pytest.fixture
def free_port():
    from conftest import free_port

    return free_port()
