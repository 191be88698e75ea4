"""`mlserve.SemanticCache` and `semantic_cached`, with the pitfalls of such caches as named tests."""

import asyncio
import contextlib
import logging
import math
import multiprocessing
import re
import socket
import threading
import time

import mlserve
import numpy
import pytest
from conftest import until
from mlserve.calls.semantic import vector_of


def vector(text):
    """Texts on a circle: the number in a text is its angle in degrees."""
    angle = math.radians(float(re.search(r"-?\d+", text)[0]))
    return [math.cos(angle), math.sin(angle), 0, 0, 0, 0, 0, 0]


# Of 10 degrees apart the cosine is 0.985, of 25 degrees 0.906, of 40 degrees 0.766.
HOW = {"embedder": "circle", "version": "v1", "hit": 0.95, "maybe": 0.8, "ttl": 60}


@pytest.fixture
def client(url):
    with mlserve.Client.from_url(url) as client:
        yield client


@pytest.fixture
def cache(client):
    return mlserve.SemanticCache(client, vector, **HOW)


@pytest.fixture
def away():
    """The address of a port at which nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{s.getsockname()[1]}"


def test_near_questions_have_one_answer_and_others_none(cache):
    assert cache.get("at 0").status == "MISS"
    assert re.fullmatch("[0-9a-f]{32}", cache.set("at 0", {"text": "é"}))
    found = cache.get("at 10")
    assert found
    assert found.value == {"text": "é"}
    [answer] = found.answers
    assert answer.similarity == pytest.approx(0.985, abs=0.002)
    assert (answer.prompt, answer.age < 60) == ("at 0", True)
    maybe = cache.get("at 25")
    assert (bool(maybe), maybe.status, maybe.value) == (False, "MAYBE", {"text": "é"})
    far = cache.get("at 40")
    assert (bool(far), far.status, far.answers, far.value) == (False, "MISS", [], None)


def test_the_same_threshold_in_threads_and_asyncio(url, cache):
    async def work():
        async with mlserve.aio.Client.from_url(url) as client:

            async def embed(text):
                await asyncio.sleep(0)
                return vector(text)

            twin = mlserve.SemanticCache(client, embed, **HOW)
            plain = mlserve.SemanticCache(client, vector, **HOW)
            await twin.aset("at 0", "answer")
            angles = range(0, 60, 3)
            return [(await twin.aget(f"at {angle}")).status for angle in angles], [
                (await plain.aget(f"at {angle}")).status for angle in angles
            ]

    one, other = asyncio.run(work())
    assert one == other == [cache.get(f"at {angle}").status for angle in range(0, 60, 3)]
    assert set(one) == {"HIT", "MAYBE", "MISS"}


def test_the_very_same_question_is_a_hit_by_its_digest(client):
    """Though the embedding of a text may differ from call to call."""
    angles = iter([0, 90])
    cache = mlserve.SemanticCache(client, lambda _: vector(str(next(angles))), **HOW)
    cache.set("What is it?", "it")
    found = cache.get("What is it?")
    assert (found.value, found.answers[0].similarity) == ("it", 1)


def test_a_question_is_embedded_once(client):
    asked = []

    def embed(text):
        asked.append(text)
        return vector(text)

    cache = mlserve.SemanticCache(client, embed, **HOW)
    found = cache.get("at 0")
    cache.set(found.question, "answer")
    assert cache.get(found.question).value == "answer"
    assert asked == ["at 0"]


def test_a_scope_is_answered_by_itself_alone(cache):
    for scope in ["acme", ("acme", "faq"), ["acme", ("faq",)], {"tenant": "acme"}]:
        assert cache.get("at 0", scope).status == "MISS"
        cache.set("at 0", [str(scope)], scope)
    assert cache.get("at 0", ("acme", "faq")).value == ["('acme', 'faq')"]
    assert cache.get("at 0", "globex").status == cache.get("at 0").status == "MISS"
    # Those that would be one, were they strung together.
    assert cache.key(("x:y", "z")) != cache.key(("x", "y:z"))


def test_one_value_is_the_scope_of_that_one(cache):
    assert cache.key("acme") == cache.key(("acme",)) == cache.key(["acme"])
    assert cache.key() == cache.key([]) != cache.key("")

    @mlserve.semantic_cached(cache)
    def answer(question, tenant):
        return question

    assert answer.key("at 0", "acme") == cache.key("acme")


def test_an_argument_that_is_no_similarity_is_named(client, cache):
    with pytest.raises(TypeError, match="hit must be a number, a cosine: 'a'"):
        client.semget("k", "v", vector("0"), hit="a")
    with pytest.raises(TypeError, match="maybe must be a number"):
        client.semfetch("k", "v", vector("0"), numpy.float32(0.9), 1, maybe=[0.8])
    with pytest.raises(TypeError, match="similarity must be a number"):
        client.semthreshold("k", "0" * 32, "0.9")
    with pytest.raises(TypeError, match="keep plain values, or give a serializer="):
        cache.set("at 0", object())


def test_a_conversation_is_the_question_in_the_scope_of_what_was_said(cache):
    """Embedded as one, two chats that end alike are nearly the same: fow-cache's traps."""
    netflix = [("user", "about my films"), ("assistant", "Shall I cancel them?")]
    gym = [("user", "about my gym"), ("assistant", "Shall I cancel it?")]
    cache.set("yes, cancel it 0", "The films are cancelled.", netflix)
    assert cache.get("yes, cancel it 0", gym).status == "MISS"
    assert cache.get("yes, cancel it 1", netflix).value == "The films are cancelled."


def test_another_embedder_is_another_cache_and_an_error_on_the_same_key(client, cache):
    cache.set("at 0", "answer")
    other = mlserve.SemanticCache(client, vector, **{**HOW, "embedder": "another"})
    assert other.get("at 0").status == "MISS"
    assert client.seminfo(cache.key()).embedder == b"circle"
    other.key = cache.key
    with pytest.raises(mlserve.ResponseError, match="EMBEDDER"):
        other.get("at 0")
    wide = mlserve.SemanticCache(client, lambda text: [*vector(text), 1], **HOW)
    with pytest.raises(mlserve.ResponseError, match="dimensions"):
        wide.get("at 0")


def test_versions_are_told_apart_and_retired(client, cache):
    version = "v1"
    cache.set("at 0", "old")
    newer = mlserve.SemanticCache(client, vector, **{**HOW, "version": lambda: version})
    assert newer.get("at 0").value == "old"
    version = "v2"
    assert newer.get("at 0").status == "MISS"
    newer.set("at 0", "new")
    client.cacheversionset("semantic", ["v2"])
    try:
        assert (cache.get("at 0").status, newer.get("at 0").value) == ("RETIRED", "new")
        assert cache.set("at 0", "old") is None
    finally:
        client.cacheversionset("semantic", None)


def test_one_form_of_unicode_where_it_is_asked_for(client):
    texts = []

    def embed(text):
        texts.append(text)
        return vector("0")

    cache = mlserve.SemanticCache(client, embed, unicode="NFC", **HOW)
    cache.set("cafe\u0301", 1, "cafe\u0301")
    assert cache.get("caf\u00e9", "caf\u00e9").answers[0].similarity == 1
    assert texts == ["caf\u00e9"] * 2


def test_what_cannot_be_read_is_no_answer(client, cache):
    pickled = mlserve.SemanticCache(client, vector, serializer=__import__("pickle"), **HOW)
    pickled.set("at 0", (1, 2))
    assert pickled.get("at 0").value == (1, 2)
    found = cache.get("at 0")
    assert (found.status, bool(found), found.value) == ("HIT", False, None)
    with pytest.raises(TypeError, match="tuple"):
        cache.set("at 0", (1, 2))


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
def test_arrays_of_all_kinds_are_the_numbers_that_they_are(kind):
    numbers = [0.5, -1, 0.25, 0, 0, 0, 0, 3]
    assert vector_of(numpy.array(numbers, kind)) == vector_of(numbers)
    assert vector_of(vector_of(numbers)) == numpy.array(numbers, "<f4").tobytes()


@pytest.mark.parametrize("wrong", [[vector("0")], numpy.zeros((1, 8)), None, "text", 1.5, [None]])
def test_what_is_no_vector_is_told(client, wrong):
    """Many libraries answer with a list of vectors, of one text too."""
    cache = mlserve.SemanticCache(client, lambda _: wrong, **HOW)
    with pytest.raises(TypeError, match="vector must be numbers, one after the other"):
        cache.get("at 0")


@pytest.mark.parametrize("wrong", [[0.0] * 8, [math.nan] * 8, [math.inf] * 8])
def test_an_embedding_of_nothing_is_refused(client, wrong):
    cache = mlserve.SemanticCache(client, lambda _: wrong, **HOW)
    with pytest.raises(mlserve.ResponseError, match="vector"):
        cache.set("at 0", 1)


def test_an_embedder_that_says_the_same_of_all_is_told(client):
    """All questions would have one answer."""
    constant = mlserve.SemanticCache(client, lambda _: vector("0"), **HOW)
    constant.set("Where is it?", "here")
    for text in ("where is it", "Where is that?", "Where is this?", "Where is it?"):
        assert constant.get(text).value == "here"
    for _ in range(2):
        with pytest.raises(ValueError, match="the same of the first 4 questions, 'Who is it"):
            constant.get("Who is it?")
    answer = mlserve.semantic_cached(constant)(lambda question: question)
    with pytest.raises(ValueError, match="embed says the same"):
        answer("Who is it?")
    # One that tells any two apart may say the same of others.
    rough = mlserve.SemanticCache(client, lambda text: vector(str(len(text) // 9)), **HOW)
    for text in ("a", "b", "c", "long enough", "d", "e"):
        rough.get(text)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hit": 1.5}, ValueError, "hit must be"),
        ({"hit": math.nan}, ValueError, "hit must be"),
        ({"hit": "0.9"}, TypeError, "hit must be a number, a cosine: '0.9'"),
        ({"maybe": 0.951}, ValueError, "maybe must be"),
        ({"maybe": "0.9"}, TypeError, "maybe must be a number"),
        ({"top": "2"}, ValueError, "top must be"),
        ({"top": 0}, ValueError, "top must be"),
        ({"ttl": 0}, ValueError, "ttl must be"),
        ({"jitter": 101}, ValueError, "jitter must be"),
        ({"embedder": ""}, TypeError, "embedder must name"),
        ({"name": 7}, TypeError, "name must be"),
        ({"serializer": object()}, TypeError, "serializer must have"),
    ],
)
def test_what_cannot_be_kept_so_is_told_at_once(client, options, error, message):
    with pytest.raises(error, match=message):
        mlserve.SemanticCache(client, vector, **{**HOW, **options})


def test_what_nobody_would_await_is_told(client, cache):
    async def later(*_):
        return vector("0")

    with pytest.raises(TypeError, match="embed must be a plain function"):
        mlserve.SemanticCache(client, later, **HOW)
    with pytest.raises(TypeError, match="judge must be a plain function"):
        mlserve.semantic_cached(cache, judge=later)
    with pytest.raises(TypeError, match="caches a plain function"):
        mlserve.semantic_cached(cache)(later)
    with pytest.raises(TypeError, match="aget"):
        asyncio.run(cache.aget("at 0"))
    with pytest.raises(TypeError, match="client must be"):
        mlserve.SemanticCache(object(), vector, **HOW)
    for prompt, error in [("", ValueError), (" \n", ValueError), (b"at 0", TypeError)]:
        with pytest.raises(error, match="a prompt must"):
            cache.get(prompt)


# --- the decorator ------------------------------------------------------------


class Model:
    """Counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, question):
        self.asked.append(question)
        return f"to {question}"


@pytest.fixture
def model():
    return Model()


def test_nearly_the_same_question_is_computed_once(cache, model):
    @mlserve.semantic_cached(cache)
    def answer(question):
        return model(question)

    assert [answer(f"at {angle}") for angle in (0, 10, 0, 25, 40)] == [
        "to at 0", "to at 0", "to at 0", "to at 25", "to at 25",
    ]  # fmt: skip
    # Without a judge nothing is a maybe.
    assert model.asked == ["at 0", "at 25"]


def test_what_a_question_is_answered_with_can_be_dropped(url, cache, model):
    @mlserve.semantic_cached(cache)
    def answer(question, tenant):
        return model(question)

    for angle in (0, 25, 50):
        answer(f"at {angle}", "acme")
    answer("at 0", "globex")
    cache.set("at 5", "another", "acme")
    assert answer.drop("at 3", "acme") == 2
    assert answer.drop("at 3", "acme") == 0
    assert [cache.get(f"at {angle}", "acme").value for angle in (25, 50)] == ["to at 25", "to at 50"]
    assert cache.get("at 0", "globex").value == "to at 0"

    async def work():
        async with mlserve.aio.Client.from_url(url) as client:
            twin = mlserve.SemanticCache(client, vector, **HOW)

            @mlserve.semantic_cached(twin)
            async def answer(question, tenant):
                return question

            return await answer.drop("at 0", "globex")

    assert asyncio.run(work()) == 1


def test_all_other_arguments_are_the_scope(cache, model):
    @mlserve.semantic_cached(cache, ignore=["trace"])
    def answer(question, tenant, *, history=(), trace=None):
        return [tenant, model(question), trace]

    assert answer("at 0", "acme", trace="t1") == ["acme", "to at 0", "t1"]
    assert answer(question="at 1", tenant="acme", trace="t2") == ["acme", "to at 0", "t1"]
    assert answer("at 0", "globex")[0] == "globex"
    answer("at 0", "acme", history=["hello"])
    assert model.asked == ["at 0"] * 3
    assert answer.key("at 0", "acme") == answer.key("at 40", "acme", trace="t3")
    assert answer.key("at 0", "acme") == cache.key(("acme", ())) != answer.key("at 0", "globex")
    assert answer.__name__ == "answer"
    with pytest.raises(TypeError, match="answer: a object has no key: prompt= names the question"):
        answer("at 0", object())
    with pytest.raises(TypeError, match="answer: a prompt must be str"):
        answer(0, "acme")


def test_the_question_may_be_any_argument_by_its_name(cache, model):
    @mlserve.semantic_cached(cache, prompt="question")
    def answer(tenant, question):
        return [tenant, model(question)]

    assert answer("acme", "at 0") == answer("acme", question="at 5") == ["acme", "to at 0"]
    for options, message in [
        ({"prompt": "text"}, "takes no argument 'text'"),
        ({"ignore": ["text"]}, "takes no argument 'text'"),
        ({"ignore": ["tenant"]}, "ignore must not name the question"),
    ]:
        with pytest.raises(ValueError, match=message):
            mlserve.semantic_cached(cache, **options)(lambda tenant: tenant)
    with pytest.raises(TypeError, match="ignore must be a list"):
        mlserve.semantic_cached(cache, ignore="tenant")
    with pytest.raises(TypeError, match="cache must be"):
        mlserve.semantic_cached(None)


def test_what_a_judge_accepts_is_served_and_judged_no_more(cache, model):
    judged = []

    def same(prompt, candidate):
        judged.append((prompt, candidate.prompt, candidate.value))
        return True

    @mlserve.semantic_cached(cache, judge=same)
    def answer(question):
        return model(question)

    assert [answer("at 0"), answer("at 25"), answer("at 25"), answer("at 26")] == ["to at 0"] * 4
    assert judged == [("at 25", "at 0", "to at 0")]
    assert model.asked == ["at 0"]


def test_what_a_judge_refuses_is_computed(cache, model):
    @mlserve.semantic_cached(cache, judge=lambda *_: False)
    def answer(question):
        return model(question)

    assert [answer("at 0"), answer("at 25"), answer("at 25")] == ["to at 0", "to at 25", "to at 25"]
    assert model.asked == ["at 0", "at 25"]


def failing(*_):
    raise ConnectionError("the judge is away")


@pytest.mark.parametrize("judge", [failing, lambda *_: "no", lambda *_: None, lambda *_: 0.9])
def test_a_judge_that_fails_or_says_neither_accepts_nothing(cache, model, judge, caplog):
    @mlserve.semantic_cached(cache, judge=judge)
    def answer(question):
        return model(question)

    assert [answer("at 0"), answer("at 25")] == ["to at 0", "to at 25"]
    assert "a judge failed" in caplog.text


def test_of_several_candidates_the_judge_may_take_any(client, model):
    cache = mlserve.SemanticCache(client, vector, top=3, **HOW)
    judged = []

    def same(_, candidate):
        judged.append(candidate.prompt)
        return candidate.prompt == "at -28"

    for angle in (20, -28, 35):
        cache.set(f"at {angle}", angle)

    @mlserve.semantic_cached(cache, judge=same)
    def answer(question):
        return model(question)

    assert answer("at 0") == -28
    assert judged == ["at 20", "at -28"]


def test_a_judge_wants_something_to_judge(client):
    cache = mlserve.SemanticCache(client, vector, **{**HOW, "maybe": None})
    with pytest.raises(ValueError, match="a judge needs a cache with maybe"):
        mlserve.semantic_cached(cache, judge=lambda *_: True)
    with pytest.raises(TypeError, match="judge must be a function"):
        mlserve.semantic_cached(cache, judge=1)


def test_a_question_of_nothing_is_answered_and_not_kept(cache, model):
    @mlserve.semantic_cached(cache)
    def answer(question):
        return model(question)

    assert [answer(""), answer(" "), answer("")] == ["to ", "to  ", "to "]
    assert len(model.asked) == 3


def test_asyncio_does_as_threads_do(url, model):
    async def work():
        async with mlserve.aio.Client.from_url(url) as client:
            cache = mlserve.SemanticCache(client, vector, **HOW)

            async def same(prompt, candidate):
                await asyncio.sleep(0)
                return (prompt, candidate.prompt) == ("at 25", "at 0")

            @mlserve.semantic_cached(cache, judge=same)
            async def answer(question):
                await asyncio.sleep(0)
                return model(question)

            return [await answer(f"at {angle}") for angle in (0, 10, 25, -25, 25)]

    assert asyncio.run(work()) == ["to at 0", "to at 0", "to at 0", "to at -25", "to at 0"]


@pytest.mark.parametrize("policy", ["allow", "deny", "raise"])
def test_while_the_server_is_away_the_policy_decides(away, model, policy):
    with mlserve.Client.from_url(away) as client:
        cache = mlserve.SemanticCache(client, vector, **HOW)

        @mlserve.semantic_cached(cache, on_error=policy)
        def answer(question):
            return model(question)

        kinds = {"deny": mlserve.Busy, "raise": mlserve.Unavailable}
        with pytest.raises(kinds[policy]) if policy in kinds else contextlib.nullcontext():
            assert answer("at 0") == "to at 0"
        assert len(model.asked) == (policy == "allow")


@pytest.mark.parametrize("policy", ["allow", "deny", "raise"])
def test_while_the_embedder_is_away_the_policy_decides(client, model, policy, caplog):
    def embed(_):
        raise ConnectionError("the embedder is away")

    cache = mlserve.SemanticCache(client, embed, **HOW)

    @mlserve.semantic_cached(cache, on_error=policy)
    def answer(question):
        return model(question)

    kinds = {"deny": mlserve.Busy, "raise": ConnectionError}
    with pytest.raises(kinds[policy]) if policy in kinds else contextlib.nullcontext():
        assert answer("at 0") == "to at 0"
    assert ("the embedder is away" in caplog.text) == (policy != "raise")
    with pytest.raises(ConnectionError):
        cache.get("at 0")


def test_an_embedder_that_is_wrong_is_no_embedder_that_is_away(client, model):
    cache = mlserve.SemanticCache(client, lambda _: [0.0] * 8, **HOW)
    answer = mlserve.semantic_cached(cache)(lambda question: model(question))
    with pytest.raises(mlserve.ResponseError, match="vector"):
        answer("at 0")


def test_an_answer_that_is_not_kept_is_served(client, cache, model, caplog):
    caplog.set_level(logging.WARNING)

    @mlserve.semantic_cached(cache)
    def answer(question):
        # What is full takes no more.
        client.command("CONFIG", "SET", "maxmemory", "1")
        return model(question)

    try:
        assert answer("at 0") == "to at 0"
    finally:
        client.command("CONFIG", "SET", "maxmemory", "0")
    assert "were not kept" in caplog.text


def test_an_error_of_the_function_is_its_callers(cache):
    @mlserve.semantic_cached(cache)
    def answer(question):
        raise ZeroDivisionError(question)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            answer("at 0")


# --- single flight ------------------------------------------------------------


def test_a_fetch_has_one_compute_and_what_it_sets_is_the_others(client, cache):
    first = cache.fetch("at 0", lease=20)
    assert (first.status, bool(first), 0 < first.lasts <= 20) == ("LEASE", False, True)
    busy = cache.fetch("at 5")
    assert (busy.status, busy.token, 0 < busy.lasts <= 20) == ("BUSY", None, True)
    assert cache.set(first.question, "answer", token="0" * 32) is None
    assert client.semrenew(first.question.key, first.token, 30)
    assert cache.set(first.question, "answer", token=first.token)
    assert cache.fetch("at 5").value == "answer"
    assert client.semrelease(first.question.key, first.token) is False


def test_what_is_accepted_by_hand_is_a_hit_from_then_on(cache):
    cache.set("at 0", "answer")
    found = cache.fetch("at 25")
    assert (found.status, bool(found), found.value) == ("MAYBE", False, "answer")
    assert cache.accept(found, found.answers[0])
    assert cache.fetch("at 25").status == cache.get("at 27").status == "HIT"
    with pytest.raises(ValueError, match="found must be of a fetch that has a token"):
        cache.accept(cache.get("at 25"), found.answers[0])


def test_a_fetch_in_asyncio(url):
    async def work():
        async with mlserve.aio.Client.from_url(url) as client:
            cache = mlserve.SemanticCache(client, vector, **HOW)
            found = await cache.afetch("at 0")
            waits = asyncio.create_task(cache.afetch("at 3", wait=20))
            await asyncio.to_thread(until, lambda: waiting(url, cache.key()))
            await cache.aset(found.question, "answer", token=found.token, ttl=60)
            assert (await waits).value == "answer"
            doubt = await cache.afetch("at 25")
            assert await cache.aaccept(doubt, doubt.answers[0])
            return (await cache.aget("at 25")).status

    assert asyncio.run(work()) == "HIT"


def waiting(url, key, number=1):
    with mlserve.Client.from_url(url) as client:
        info = client.seminfo(key)
        return info is not None and info.waiters >= number


def ask_in_process(url, ready, computed, values, number):
    with mlserve.Client.from_url(url, timeout=20) as client:
        cache = mlserve.SemanticCache(client, vector, **HOW)

        @mlserve.semantic_cached(cache, lease=30)
        def answer(question):
            with computed.get_lock():
                computed.value += 1
            time.sleep(0.3)
            return "answer"

        ready.wait()
        values.put(answer(f"at {number % 8}"))


def test_many_processes_that_ask_nearly_the_same_at_once_compute_once(url):
    context = multiprocessing.get_context("fork")
    ready, computed, values = context.Barrier(16), context.Value("i"), context.Queue()
    processes = [
        context.Process(target=ask_in_process, args=(url, ready, computed, values, number))
        for number in range(16)
    ]
    for process in processes:
        process.start()
    assert [values.get(timeout=60) for _ in processes] == ["answer"] * 16
    for process in processes:
        process.join()
    assert computed.value == 1


def test_two_thousand_tasks_that_ask_nearly_the_same_at_once_compute_once(url, model):
    async def work():
        async with mlserve.aio.Client.from_url(url, timeout=30, max_connections=64) as client:
            cache = mlserve.SemanticCache(client, vector, **HOW)

            @mlserve.semantic_cached(cache, lease=30)
            async def answer(question):
                await asyncio.sleep(0.1)
                return model(question)

            return await asyncio.gather(*(answer(f"at {n % 8}") for n in range(2000)))

    answers = asyncio.run(work())
    assert len(model.asked) == len(set(answers)) == 1
    assert len(answers) == 2000


def test_one_judges_for_all_who_ask_nearly_the_same_at_once(url, client, cache, model):
    cache.set("at 0", "answer", ())
    judged = []

    def same(prompt, candidate):
        judged.append((prompt, candidate.prompt))
        until(lambda: waiting(url, cache.key(), 7))
        return True

    @mlserve.semantic_cached(cache, judge=same, lease=30)
    def answer(question):
        return model(question)

    values = []
    threads = [
        threading.Thread(target=lambda n=n: values.append(answer(f"at {25 + n % 4}")))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert values == ["answer"] * 8
    assert len(judged) == 1
    assert model.asked == []


def test_what_is_refused_under_a_lease_is_computed_under_it(client, cache, model):
    cache.set("at 0", "answer")

    @mlserve.semantic_cached(cache, judge=lambda *_: False, lease=30)
    def answer(question):
        assert client.semfetch(cache.key(), "v1", vector("at 25"), 0.95, 1).status == "BUSY"
        return model(question)

    assert answer("at 25") == "to at 25"
    assert cache.get("at 25").value == "to at 25"


def test_a_lease_is_renewed_while_it_is_judged_and_computed(client, cache):
    cache.set("at 0", "answer")
    key = cache.key()

    def renewed():
        """What another caller is told, once it is told to wait for longer than before."""
        lasts = math.inf
        while True:
            asked = client.semfetch(key, "v1", vector("at 25"), 0.95, 1)
            if asked.status != "BUSY" or asked.lasts > lasts:
                return asked.status
            lasts = asked.lasts
            time.sleep(0.01)

    @mlserve.semantic_cached(cache, judge=lambda *_: renewed() != "BUSY", lease=4)
    def answer(question):
        return renewed()

    # Who would be let in by a lease that is over is told to wait, twice.
    assert answer("at 25") == "BUSY"


def test_what_went_while_it_was_judged_is_served_and_holds_nobody_up(client, cache):
    id_ = cache.set("at 0", "answer")

    def same(*_):
        client.semdrop(cache.key(), id=id_)
        return True

    answer = mlserve.semantic_cached(cache, judge=same)(lambda question: question)
    assert answer("at 25") == "answer"
    assert cache.fetch("at 25").status == "LEASE"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_or_an_interruption_gives_the_lease_back(cache, error):
    @mlserve.semantic_cached(cache)
    def answer(question):
        raise error(question)

    with pytest.raises(error):
        answer("at 0")
    assert cache.fetch("at 3").status == "LEASE"


def test_an_interrupted_judge_gives_the_lease_back(cache):
    cache.set("at 0", "answer")

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mlserve.semantic_cached(cache, judge=interrupted)(lambda question: question)("at 25")
    assert cache.fetch("at 25").token


def test_an_error_can_keep_all_from_trying_for_a_while(cache, model):
    @mlserve.semantic_cached(cache, backoff=20, wait=0.05, on_busy="raise")
    def answer(question):
        model(question)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer("at 0")
    with pytest.raises(mlserve.Busy) as busy:
        answer("at 3")
    assert 0 < busy.value.retry_after <= 20
    assert model.asked == ["at 0"]


def test_a_cancelled_task_gives_its_lease_back(url):
    async def work():
        async with mlserve.aio.Client.from_url(url) as client:
            cache = mlserve.SemanticCache(client, vector, **HOW)
            begun = asyncio.Event()

            @mlserve.semantic_cached(cache)
            async def answer(question):
                begun.set()
                await asyncio.sleep(60)

            task = asyncio.create_task(answer("at 0"))
            await begun.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return (await cache.afetch("at 3")).status

    assert asyncio.run(work()) == "LEASE"


@pytest.mark.parametrize("policy", ["compute", "raise"])
def test_who_has_waited_long_enough_computes_or_is_told(cache, model, policy):
    held = cache.fetch("at 0", lease=20)

    @mlserve.semantic_cached(cache, wait=0.05, on_busy=policy)
    def answer(question):
        return model(question)

    with pytest.raises(mlserve.Busy) if policy == "raise" else contextlib.nullcontext():
        assert answer("at 3") == "to at 3"
    # It is not kept: it is the other's to answer.
    assert cache.get("at 3").status == "MISS"
    assert cache.set(held.question, "answer", token=held.token)


def test_while_another_judges_who_has_waited_long_enough_judges_for_itself(cache, model):
    cache.set("at 0", "answer")
    assert cache.fetch("at 25", lease=20).token

    @mlserve.semantic_cached(cache, judge=lambda prompt, _: prompt == "at 26", wait=0.05)
    def answer(question):
        return model(question)

    assert [answer("at 26"), answer("at 24")] == ["answer", "to at 24"]
    assert cache.get("at 26").status == "MAYBE"


def test_what_is_past_its_time_is_served_where_the_function_fails(client, model):
    cache = mlserve.SemanticCache(client, vector, **{**HOW, "ttl": 0.02, "stale": 60})
    healthy = True

    @mlserve.semantic_cached(cache, on_failure="stale")
    def answer(question):
        if not healthy:
            raise ConnectionError("the model is away")
        return model(question)

    assert answer("at 0") == "to at 0"
    until(lambda: cache.get("at 0").status == "MISS")
    healthy = False
    assert answer("at 3") == "to at 0"
    with pytest.raises(ConnectionError):
        answer("at 90")
    with pytest.raises(ValueError, match="needs stale"):
        mlserve.semantic_cached(mlserve.SemanticCache(client, vector, **HOW), on_failure="stale")


def test_a_server_that_takes_no_writes_is_read(url, client, cache, model):
    cache.set("at 0", "answer")
    client.command("CONFIG", "SET", "min-replicas-to-write", "1")
    try:

        @mlserve.semantic_cached(cache, judge=lambda prompt, _: prompt == "at 25")
        def answer(question):
            return model(question)

        assert [answer("at 3"), answer("at 25")] == ["answer"] * 2
        assert [answer("at -25"), answer("at 90")] == ["to at -25", "to at 90"]
    finally:
        client.command("CONFIG", "SET", "min-replicas-to-write", "0")
    assert cache.get("at 90").status == "MISS"


def test_an_answer_that_cannot_be_read_is_computed_anew(client, cache, model, caplog):
    pickled = mlserve.SemanticCache(client, vector, serializer=__import__("pickle"), **HOW)
    pickled.set("at 0", (1, 2))
    answer = mlserve.semantic_cached(cache)(lambda question: model(question))
    assert [answer("at 0"), answer("at 0")] == ["to at 0"] * 2
    assert model.asked == ["at 0"]
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lease": 0}, "lease must be"),
        ({"on_busy": "wait"}, "on_busy must be"),
        ({"on_error": "wait"}, "on_error must be"),
        ({"on_failure": "wait"}, "on_failure must be"),
    ],
)
def test_what_cannot_be_computed_so_is_told_at_once(cache, options, message):
    with pytest.raises(ValueError, match=message):
        mlserve.semantic_cached(cache, **options)
