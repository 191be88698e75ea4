"""`mlserve.SemanticCache` and `semantic_cached`, with the pitfalls of such caches as named tests."""

import asyncio
import contextlib
import logging
import math
import re
import socket

import mlserve
import numpy
import pytest
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
    for scope in ["acme", ("acme", "faq"), ["acme", "faq"], {"tenant": "acme"}]:
        assert cache.get("at 0", scope).status == "MISS"
        cache.set("at 0", [str(scope)], scope)
    assert cache.get("at 0", ("acme", "faq")).value == ["('acme', 'faq')"]
    assert cache.get("at 0", "globex").status == cache.get("at 0").status == "MISS"
    # Those that would be one, were they strung together.
    assert cache.key(("x:y", "z")) != cache.key(("x", "y:z"))


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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hit": 1.5}, ValueError, "hit must be"),
        ({"hit": math.nan}, ValueError, "hit must be"),
        ({"maybe": 0.95}, ValueError, "maybe must be"),
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
