"""`mlserve.cached` for threads and for asyncio alike: refused fetches, renewal, batches, values,
many callers; and the pitfalls of clients that it has to do with."""

import asyncio
import concurrent.futures
import functools
import pickle
import threading
import time
import uuid
from pathlib import Path

import mlserve
import numpy
import pytest
import redis
from conftest import free_port
from mlserve import Status, caching
from test_client_faults import Asyncio, Blocking, until


class Cached:
    """Functions that a client of either kind caches, called alike."""

    def __init__(self, runner, client):
        self.runner = runner
        self.client = client
        self.threads = concurrent.futures.ThreadPoolExecutor(64)

    def __call__(self, name="pred", *, version="v1", **options):
        """The decorator, of plain functions: under asyncio they run in threads, and may block."""
        made = mlserve.cached(self.client.client, name, version=version, **options)
        if self.runner is Blocking:
            return made

        def decorate(function):
            @functools.wraps(function)
            async def awaited(*args, **kwargs):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self.threads, lambda: function(*args, **kwargs))

            cached = made(awaited)

            def call(*args, **kwargs):
                coroutine = cached(*args, **kwargs)
                return self.answer(coroutine)

            call.key = cached.key
            call.drop = lambda *args, **kwargs: self.answer(cached.drop(*args, **kwargs))
            return call

        return decorate

    def answer(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.client.loop).result()

    def close(self):
        self.client.close()
        self.threads.shutdown()


@pytest.fixture(params=["threads", "asyncio"])
def cached_by(request):
    """Makes what caches by a client of the URL."""
    runner, kind = {"threads": (Blocking, mlserve.Client), "asyncio": (Asyncio, mlserve.aio.Client)}[
        request.param]  # fmt: skip
    made = []

    def make(url, timeout=5, of="from_url"):
        made.append(Cached(runner, runner(getattr(kind, of)(url, timeout=timeout))))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def cached(cached_by, url):
    return cached_by(url)


@pytest.fixture
def client(url):
    with mlserve.Client.from_url(url, timeout=5) as client:
        yield client


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        yield pool


def key_of(item):
    """What the tests have their keys be made of, to know them."""
    return item


def place(item, name="pred"):
    return f"{name}:{mlserve.keys.digest(item)}"


def lasts(client, item):
    """What is left of the lease of an item, in seconds, or None where none is held."""
    info = client.cacheinfo(place(item))
    return (info and info.lease) or None


def waiters(client, item):
    """How many wait for the answer of an item."""
    info = client.cacheinfo(place(item))
    return info.waiters if info else 0


# --- a server that refuses fetches ---------------------------------------------


@pytest.fixture(scope="module")
def stubborn(start_server, module):
    """A server whose snapshots fail: what refuses writes can be switched on."""
    port = start_server(
        f"loadmodule {module}\nsave 900 1\nstop-writes-on-bgsave-error no\ndbfilename taken\n")  # fmt: skip
    with redis.Redis(port=port, decode_responses=True) as admin:
        Path(admin.config_get("dir")["dir"], "taken").mkdir()
        admin.bgsave()
        until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield admin, f"redis://127.0.0.1:{port}"
        admin.config_set("save", "")  # Else it would not end without a snapshot.


REFUSALS = {
    "MISCONF": ("CONFIG SET stop-writes-on-bgsave-error yes", "CONFIG SET stop-writes-on-bgsave-error no"),
    "NOREPLICAS": ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    "READONLY": ("REPLICAOF 127.0.0.1 {port}", "REPLICAOF NO ONE"),
}  # fmt: skip


@pytest.mark.parametrize("code", REFUSALS)
def test_where_fetches_are_refused_answers_are_read(stubborn, cached_by, code):
    admin, url = stubborn
    admin.flushall()
    cached = cached_by(url)
    asked = []

    @cached(key=key_of, ttl=60, stale=60)
    def score(text):
        asked.append(text)
        return text.upper()

    @cached(key=key_of, ttl=60, stale=60, batch=True)
    def scores(texts):
        asked.append(texts)
        return [text.upper() for text in texts]

    assert [score("fresh"), score("stale")] == ["FRESH", "STALE"]
    refuse, take = REFUSALS[code]
    with mlserve.Client.from_url(url, timeout=5) as client:
        assert client.cachedrop(place("stale"), stale=True) == 1
        admin.execute_command(refuse.format(port=free_port()))
        try:
            asked.clear()
            with pytest.raises(mlserve.ResponseError) as raised:
                client.cachefetch(place("fresh"), "v1", 5)
            assert raised.value.code == code
            assert [score("fresh"), score("stale")] == ["FRESH", "STALE"] and asked == []
            assert scores(["fresh", "none", "stale"]) == ["FRESH", "NONE", "STALE"]
            assert score("none") == "NONE"
            # What is missing is computed, and kept nowhere.
            assert asked == [["none"], "none"]
            assert client.cacheget(place("none"), "v1") is None
        finally:
            admin.execute_command(take)
        until(lambda: score("none") == "NONE" and client.cacheget(place("none"), "v1"))


# --- renewal, early, stale ------------------------------------------------------


def seen_renewed(client, items, times=2):
    """Waits until the leases of all items were seen to last longer than a moment before."""
    before, rises = {}, dict.fromkeys(items, 0)

    def all_rose():
        for item in items:
            now = lasts(client, item)
            assert now is not None, "the lease has ended"
            rises[item] += now > before.get(item, now)
            before[item] = now
        return min(rises.values()) >= times

    until(all_rose)


def test_a_lease_is_renewed_while_the_computation_runs(cached, client):
    @cached(key=key_of, lease=3)
    def score(text):
        seen_renewed(client, [text])
        return 1

    assert score("slow") == 1
    assert client.cacheget(place("slow"), "v1") == b"1"


def test_all_leases_of_a_batch_are_renewed(cached, client):
    texts = ["a", "b", "c"]

    @cached(key=key_of, lease=4, batch=True)
    def scores(some):
        seen_renewed(client, some, times=1)
        return [1] * len(some)

    assert scores(texts) == [1] * 3
    assert client.cachemget([place(text) for text in texts], "v1") == [b"1"] * 3


@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_early_has_one_caller_compute_anew_while_the_others_are_served(cached, client, batch):
    computed, served = [], []

    def compute(text):
        begun = time.monotonic()
        until(lambda: time.monotonic() > begun + 0.05)  # What it costs, the server sees.
        computed.append(text)
        if len(computed) > 1:
            served.append(client.cachefetch(place("a"), "v1", 5))
        return len(computed)

    options = {"key": key_of, "ttl": 60, "early": 1000}
    if batch:
        many = cached(batch=True, **options)(lambda texts: [compute(text) for text in texts])

        def score(text):
            return many([text])[0]
    else:
        score = cached(**options)(compute)

    assert score("a") == 1
    until(lambda: score("a") == 2)
    assert {fetch.status for fetch in served} == {Status.HIT}
    assert served[0].value == b"1"


def test_what_is_stale_is_served_while_one_computes(cached, client, pool):
    going_on, computed = threading.Event(), []

    @cached(key=key_of, ttl=60, stale=60, lease=30)
    def score(text):
        computed.append(text)
        if len(computed) == 2:
            assert going_on.wait(20)
        return len(computed)

    assert score("a") == 1
    client.cachedrop(place("a"), stale=True)
    try:
        second = pool.submit(score, "a")
        until(lambda: len(computed) == 2)
        assert [score("a") for _ in range(5)] == [1] * 5
    finally:
        going_on.set()
    assert second.result() == 2 and score("a") == 2


def failing(cached, *, batch, **options):
    """A function that fails once it is told to, and what computes one item by it."""
    state = {"fails": None, "computed": 0}
    options = {"key": key_of, "ttl": 60, "stale": 60, "on_failure": "stale", **options}

    def compute(text):
        if state["fails"]:
            raise state["fails"]
        state["computed"] += 1
        return f"{text} {state['computed']}"

    if not batch:
        return state, cached(**options)(compute)
    many = cached(batch=True, **options)(lambda texts: [compute(text) for text in texts])
    return state, lambda *texts: many(list(texts))[0]


@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_what_is_stale_is_served_where_the_function_fails(cached, client, caplog, batch):
    state, score = failing(cached, batch=batch)
    assert score("a") == "a 1"
    client.cachedrop(place("a"), stale=True)
    state["fails"] = ZeroDivisionError("broken")
    for _ in range(2):  # At once: the lease was given back.
        assert score("a") == "a 1"
        assert lasts(client, "a") is None
    assert "pred failed, stale answers are served" in caplog.text and "broken" in caplog.text
    with pytest.raises(ZeroDivisionError):
        score("b")
    state["fails"] = None
    assert score("a") == "a 2"
    # By default it is the error.
    client.cachedrop(place("a"), stale=True)
    state, score = failing(cached, batch=batch, on_failure="raise")
    state["fails"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        score("a")


def test_a_batch_that_fails_has_all_its_stale_answers_or_the_error(cached, client):
    state, score = failing(cached, batch=True)
    score("a", "b", "c")
    for item in "ab":
        client.cachedrop(place(item), stale=True)
    state["fails"] = ZeroDivisionError()
    assert score("c", "b", "a") == "c 3"
    with pytest.raises(ZeroDivisionError):
        score("c", "b", "d")
    assert lasts(client, "b") is None and lasts(client, "d") is None


def test_while_nobody_may_compute_what_is_stale_is_served(cached, client):
    state, score = failing(cached, batch=False, backoff=60)
    score("a")
    client.cachedrop(place("a"), stale=True)
    state["fails"] = ZeroDivisionError()
    assert score("a") == "a 1"
    state["fails"] = None
    assert score("a") == "a 1" and state["computed"] == 1


def test_an_answer_that_cannot_be_kept_is_an_error_all_the_same(cached, client):
    answers = iter(["first", {1, 2}])
    score = cached(key=key_of, stale=60, on_failure="stale")(lambda text: next(answers))
    assert score("a") == "first"
    client.cachedrop(place("a"), stale=True)
    with pytest.raises(TypeError, match="JSON does not give back a set"):
        score("a")


def test_the_answer_to_some_arguments_is_dropped(cached, client):
    computed = []

    @cached(ttl=60)
    def score(text, top=3):
        computed.append(text)
        return len(computed)

    assert [score("a"), score("b"), score("a", top=3)] == [1, 2, 1]
    assert score.key("a") == score.key(top=3, text="a") != score.key("a", 4)
    assert client.cacheget(score.key("a"), "v1") == b"1"
    assert score.drop("a", top=3) == 1 and score.drop("a") == 0
    assert [score("a"), score("b")] == [3, 2]

    many = cached("many", ttl=60, batch=True)(lambda texts, top=3: [top for _ in texts])
    assert many(["a", "b"], 4) == [4, 4]
    assert many.drop("a", 4) == 1
    assert client.cachemget([many.key(text, 4) for text in "ab"], "v1") == [None, b"4"]


def test_the_version_is_said_by_the_arguments(cached, client):
    model = {"a": "v1", "b": "v2"}

    @cached(version=lambda text, **_: model[text])
    def score(text, top=3):
        return top

    assert score("a") == 3 and score("b", top=4) == 4
    keys = [score.key("a"), score.key("b", top=4)]
    assert client.cachemget(keys, "v1") == [b"3", None]
    assert client.cachemget(keys, "v2") == [None, b"4"]

    many = cached(batch=True, version=lambda items, language: f"{language}{len(items)}")(
        lambda texts, language: texts)
    assert many(iter(["a", "b"]), "en") == ["a", "b"]
    assert client.cachemget([many.key(text, "en") for text in "ab"], "en2") == [b'"a"', b'"b"']

    # What takes nothing, or has all bound early, is asked as it is.
    for version in (lambda: "v7", lambda found="v7": found, functools.partial(str, "v7")):
        named = cached("named", version=version)(lambda text: 1)
        assert named("x") == 1
        assert client.cacheget(named.key("x"), "v7") == b"1"
        named.drop("x")


@pytest.mark.parametrize(("options", "error"), [
    ({"on_failure": "serve"}, "on_failure must be"),
    ({"on_failure": "stale"}, 'on_failure="stale" needs stale'),
    ({"name": b"pred"}, "name must be str: b'pred'"),
    ({"lease": 0}, "lease must be seconds, above 0: 0"),
    ({"lease": "5"}, "lease must be seconds or a timedelta: '5'"),
    ({"ttl": 0}, "ttl must be seconds, above 0: 0"),
    ({"jitter": 101}, "jitter must be from 0 to 100, percent: 101"),
    ({"ignore": "text"}, "ignore must be a list of names, not 'text' alone"),
    ({"serializer": "pickle"}, "serializer must have dumps and loads: 'pickle'"),
])
def test_options_that_cannot_be_are_refused(cached, options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        cached(**options)


# --- batches --------------------------------------------------------------------


def test_an_error_of_a_batch_gives_all_its_leases_back(cached, client):
    @cached(key=key_of, lease=60, batch=True)
    def scores(texts):
        assert all(lasts(client, text) for text in texts)
        raise ZeroDivisionError

    texts = [str(number) for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        scores(texts)
    assert [lasts(client, text) for text in texts] == [None] * 20


def held(client, item):
    fetched = client.cachefetch(place(item), "v1", 60)
    assert fetched.status is Status.LEASE
    return fetched.token


def test_a_batch_computes_what_it_gets_while_it_waits_for_the_rest(cached, client, pool):
    tokens = {text: held(client, text) for text in "abc"}
    computed = []

    @cached(key=key_of, lease=30, wait=30, batch=True)
    def scores(texts):
        computed.append(texts)
        return [text.upper() for text in texts]

    waiting = pool.submit(scores, ["a", "b", "c", "d"])
    until(lambda: computed == [["d"]])
    # Who holds one of them gives up, and it is computed then, not once the others are there:
    # whichever it is.
    client.cacherelease(place("a"), tokens["a"])
    until(lambda: client.cacheget(place("a"), "v1") == b'"A"')
    client.cacherelease(place("c"), tokens["c"])
    until(lambda: client.cacheget(place("c"), "v1") == b'"C"')
    client.cacheset(place("b"), "v1", b'"b"', token=tokens["b"])
    assert waiting.result() == ["A", "b", "C", "D"]
    assert computed == [["d"], ["a"], ["c"]]


def test_a_batch_that_waited_in_vain_holds_nothing(cached, client):
    held(client, "b")

    @cached(key=key_of, lease=60, wait=0.05, batch=True, on_busy="raise")
    def scores(texts):
        return [text.upper() for text in texts]

    with pytest.raises(mlserve.Busy) as raised:
        scores(["a", "b", "c"])
    assert lasts(client, "a") is lasts(client, "c") is None
    assert 50 < raised.value.retry_after <= 60
    # What could be computed is kept, for the next.
    assert client.cachemget([place("a"), place("c")], "v1") == [b'"A"', b'"C"']
    computing = cached(key=key_of, wait=0.05, batch=True)(lambda texts: [text * 2 for text in texts])
    assert computing(["a", "b", "b"]) == ["A", "bb", "bb"]
    assert client.cacheget(place("b"), "v1") is None


def test_nobody_may_compute_for_a_while_is_not_waited_for(cached, client):
    client.cacherelease(place("a"), held(client, "a"), backoff=60)
    scores = cached(key=key_of, wait=30, batch=True)(lambda texts: [text.upper() for text in texts])
    assert scores(["a", "b"]) == ["A", "B"]
    strict = cached(key=key_of, wait=30, batch=True, on_busy="raise")(lambda texts: texts)
    with pytest.raises(mlserve.Busy):
        strict(["a", "c"])
    assert client.cacheget(place("a"), "v1") is None


def test_an_error_while_others_are_waited_for_gives_the_leases_back(cached, client, pool):
    token = held(client, "a")

    @cached(key=key_of, lease=60, wait=30, batch=True)
    def scores(texts):
        raise ZeroDivisionError

    waiting = pool.submit(scores, ["a"])
    until(lambda: waiters(client, "a"))
    client.cacherelease(place("a"), token)
    with pytest.raises(ZeroDivisionError):
        waiting.result()
    assert lasts(client, "a") is None


def test_an_answer_that_the_server_does_not_take_has_nobody_wait_for_it(cached, client):
    client.command("CONFIG", "SET", "ml.cache-max-value-bytes", 1024)
    try:
        whole = cached(key=key_of, lease=60)(lambda text: text * 2000)
        assert whole("a") == "a" * 2000
        many = cached(key=key_of, lease=60, batch=True)(lambda texts: [text * 2000 for text in texts])
        assert many(["b", "c"]) == ["b" * 2000, "c" * 2000]
    finally:
        client.command("CONFIG", "SET", "ml.cache-max-value-bytes", 1 << 20)
    assert [lasts(client, text) for text in "abc"] == [None] * 3


def test_an_answer_that_cannot_be_read_is_replaced(cached, client):
    for text in "ab":
        client.cacheset(place(text), "v1", b"\xff no JSON")
    score = cached(key=key_of)(str.upper)
    scores = cached(key=key_of, batch=True)(lambda texts: [text.upper() for text in texts])
    assert score("a") == "A" and scores(["b"]) == ["B"]
    assert client.cachemget([place("a"), place("b")], "v1") == [b'"A"', b'"B"']


def test_a_batch_without_its_items_says_so(cached):
    scores = cached(batch=True)(lambda texts: texts)
    with pytest.raises(TypeError, match="takes its items by position"):
        scores(texts=["a"])
    assert scores([]) == []


# --- values and arguments -------------------------------------------------------


def test_arrays_count_as_arguments_and_come_back_as_results(cached):
    asked = []

    @cached(serializer=caching.NUMPY)
    def doubled(array, scale=1.0):
        asked.append(array)
        return array * 2 * scale

    array = numpy.arange(6, dtype="f4").reshape(2, 3)
    for _ in range(2):
        found = doubled(array)
        assert found.dtype == array.dtype and numpy.array_equal(found, array * 2)
    assert numpy.array_equal(doubled(numpy.asfortranarray(array), scale=1.0), array * 2)
    assert len(asked) == 1
    # Other values, another shape, another type: another answer.
    for other in (array + 1, array.reshape(3, 2), array.astype("f8")):
        assert numpy.array_equal(doubled(other), other * 2)
    assert len(asked) == 4


def test_values_as_pickles(cached):
    asked = []

    @cached(serializer=pickle)
    def about(text):
        asked.append(text)
        return {"id": uuid.UUID(int=7), "tuple": (1, {2}), "array": numpy.arange(3)}

    first, second = about("a"), about("a")
    assert asked == ["a"]
    assert first["tuple"] == second["tuple"] == (1, {2}) and second["id"] == uuid.UUID(int=7)
    assert numpy.array_equal(second["array"], numpy.arange(3))


# --- many callers ----------------------------------------------------------------


def test_many_threads_at_once_compute_once(cached, client, pool):
    going_on, computed = threading.Event(), []

    @cached(key=key_of, lease=60, wait=30)
    def score(text):
        computed.append(text)
        assert going_on.wait(20)
        return len(computed)

    calls = [pool.submit(score, "a") for _ in range(32)]
    until(lambda: waiters(client, "a") == 31)
    going_on.set()
    assert [call.result() for call in calls] == [1] * 32
    assert computed == ["a"]


# --- shared/pitfalls.md, "Clients" ---------------------------------------------


@pytest.mark.parametrize("policy", ["allow", "deny", "raise"])
@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_pitfall_clients_1_the_server_is_down(cached_by, policy, batch):
    cached = cached_by(f"redis://127.0.0.1:{free_port()}", timeout=0.2)
    computed = []
    score = cached(on_error=policy, batch=batch)(lambda x: computed.append(x) or x)
    if policy == "allow":
        assert score([7]) == [7] and computed == [[7]]
        return
    with pytest.raises(mlserve.Busy if policy == "deny" else mlserve.Unavailable):
        score([7])
    assert computed == []


def test_pitfall_clients_1_admit_of_asyncio_while_the_server_is_down():
    async def everything():
        url = f"redis://127.0.0.1:{free_port()}"
        async with mlserve.aio.Client.from_url(url, timeout=0.2) as client:
            limited = mlserve.limit("1/minute", key="k")
            async with mlserve.admit(client, limited, on_error="allow") as admission:
                assert admission.decision is None
            for policy, error in (("deny", mlserve.Busy), ("raise", mlserve.Unavailable)):
                with pytest.raises(error):
                    await mlserve.admit(client, limited, on_error=policy).__aenter__()

    asyncio.run(everything())


def test_pitfall_clients_3_threads_and_asyncio_have_the_same_keys(cached, url):
    asked = []

    def score(*parts, **more):
        asked.append((parts, more))
        return repr((parts, sorted(more.items())))

    different = [("x:y", "z"), ("x", "y:z"), (1,), (1.0,), ("1",), (b"1",), (True,),
                 ("\u00e9",), ("e\u0301",), ({"a": 1, "b": 2},), ([1, 2],), ((1, 2),)]  # fmt: skip
    by_this = cached()(score)
    assert [by_this(*parts) for parts in different] == [score(*parts) for parts in different]
    assert by_this({"b": 2, "a": 1}) == by_this({"a": 1, "b": 2})
    with mlserve.Client.from_url(url, timeout=5) as client:
        asked.clear()
        by_threads = mlserve.cached(client, "pred", version="v1")(score)
        assert len({by_threads(*parts) for parts in different}) == len(different)
        assert asked == []


def test_pitfall_clients_6_counts_cannot_be_mistaken_by_asyncio(url, client):
    async def everything():
        async with mlserve.aio.Client.from_url(url, timeout=5) as ml:
            # 10 in 5 s and 1000 in a day, however they are written.
            several = mlserve.limit("10/5 seconds; 1000 per day", key="k", cost=4)
            async with mlserve.admit(ml, several):
                pass
            windows = (await ml.limitinfo("k")).windows
            assert [(one.window, one.limit, one.used) for one in windows] == [(5, 10, 4), (86400, 1000, 4)]
            with pytest.raises(mlserve.ResponseError, match="COST"):
                await ml.ratelimit("k", 10, 5, cost=-1)
            with pytest.raises(mlserve.ResponseError, match="limit must be"):
                await ml.admit({"k": mlserve.Limit("100/minute", 60)})
            assert (await ml.limitinfo("k")).windows[1].used == 4

    asyncio.run(everything())
