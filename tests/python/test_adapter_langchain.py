"""mlserve.langchain, by the standard tests of LangChain (langchain-tests 1.1.9)."""

import asyncio
import logging
import socket

import mlserve
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import Generation
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite
from test_client_semantic import vector

from mlserve.langchain import MlserveCache, MlserveSemanticCache


@pytest.fixture
def cache(url):
    return MlserveCache(url, ttl=60)


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, url):
        return MlserveCache(url, ttl=60)


@pytest.mark.asyncio
class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    def cache(self, url):
        return MlserveCache(url, ttl=60)


def test_models_are_versions_and_clear_leaves_other_keys(cache):
    cache.client.command("SET", "other", "1", keys=["other"])
    cache.update("prompt", "model a" * 100, [Generation(text="a")])
    cache.update("prompt", "model b" * 100, [Generation(text="b")])
    assert cache.lookup("prompt", "model a" * 100) == [Generation(text="a")]
    assert cache.lookup("prompt", "model b" * 100) == [Generation(text="b")]
    cache.clear()
    assert cache.lookup("prompt", "model a" * 100) is None
    assert cache.client.command("GET", "other", keys=["other"]) == b"1"


# --- the semantic cache -------------------------------------------------------


def semantic(url, **options):
    embeddings = DeterministicFakeEmbedding(size=64)
    return MlserveSemanticCache(url, embeddings, embedder="fake", ttl=60, **options)


class TestSemanticSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, url):
        return semantic(url)


@pytest.mark.asyncio
class TestSemanticAsync(AsyncCacheTestSuite):
    @pytest.fixture
    def cache(self, url):
        return semantic(url)


class Circle(Embeddings):
    """The number in a text is an angle in degrees."""

    def __init__(self):
        self.asked = []

    def embed_query(self, text):
        self.asked.append(text)
        return vector(text)

    def embed_documents(self, texts):
        return [vector(text) for text in texts]


def circle(url, **options):
    return MlserveSemanticCache(url, Circle(), embedder="circle", ttl=60, **options)


def said(text):
    return [Generation(text=text)]


def test_nearly_the_same_prompt_of_the_same_model_is_answered(url):
    cache = circle(url)
    cache.update("at 0", "model a" * 100, said("a"))
    assert cache.lookup("at 10", "model a" * 100) == said("a")
    assert cache.lookup("at 30", "model a" * 100) is None
    assert cache.lookup("at 0", "model b" * 100) is None
    assert circle(url, version="2").lookup("at 0", "model a" * 100) is None
    cache.client.command("SET", "other", "1", keys=["other"])
    cache.clear()
    assert cache.lookup("at 0", "model a" * 100) is None
    assert cache.client.command("GET", "other", keys=["other"]) == b"1"
    cache.update(" ", "model", said("nothing"))
    assert cache.lookup(" ", "model") is None


@pytest.fixture
def away():
    """The address of a port at which nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{s.getsockname()[1]}"


@pytest.mark.usefixtures("_no_cache_after")
@pytest.mark.parametrize("made", [MlserveCache, circle])
def test_a_server_that_is_away_is_an_empty_cache(made, away, caplog):
    set_llm_cache(made(away))
    model = GenericFakeChatModel(messages=iter(AIMessage(answer) for answer in "abc"))
    with caplog.at_level(logging.WARNING, "mlserve"):
        assert model.invoke([HumanMessage("at 0")]).content == "a"
        assert model.invoke([HumanMessage("at 0")]).content == "b"

    async def work():
        return (await model.ainvoke([HumanMessage("at 0")])).content

    assert asyncio.run(work()) == "c"
    assert "the cache is away" in caplog.text


def test_an_error_that_is_no_absence_is_raised(cache):
    cache.client.command("SET", cache._names("prompt", "model")[0], "text")
    with pytest.raises(mlserve.ResponseError, match="wrong kind"):
        cache.lookup("prompt", "model")


def test_a_question_that_cannot_be_embedded_is_not_found_and_not_kept(url, caplog):
    cache = circle(url)
    cache.update("no number", "model", said("a"))
    assert cache.lookup("no number", "model") is None
    assert "is not embedded" in caplog.text


def test_what_is_in_doubt_is_judged_once(url):
    judged = []

    def same(prompt, candidate):
        judged.append((prompt, candidate.prompt, candidate.value))
        return prompt == "at 30"

    cache = circle(url, maybe=0.8, judge=same)
    cache.update("at 0", "model", said("a"))
    assert cache.lookup("at 30", "model") == cache.lookup("at 30", "model") == said("a")
    assert cache.lookup("at -30", "model") is None
    assert judged == [("at 30", "at 0", said("a")), ("at -30", "at 0", said("a"))]
    with pytest.raises(ValueError, match="a judge needs a cache with maybe"):
        circle(url, judge=same)

    async def later(prompt, candidate):
        return True

    cache = circle(url, maybe=0.8, judge=later)
    assert asyncio.run(cache.alookup("at -30", "model")) == said("a")


def chat(url, answers, **options):
    set_llm_cache(circle(url, **options))
    return GenericFakeChatModel(messages=iter(AIMessage(answer) for answer in answers))


@pytest.fixture
def _no_cache_after():
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("_no_cache_after")
def test_chats_are_compared_by_the_last_question_in_the_scope_of_what_was_said(url):
    model = chat(url, ["first", "second", "third", "fourth", "fifth"])
    system = SystemMessage("You are kind.")
    films, gym = AIMessage("Your films?", id="1"), AIMessage("Your gym?", id="2")
    cancel, again = HumanMessage("yes, cancel it 0", id="3"), HumanMessage("cancel it, yes 10")
    assert model.invoke([system, films, cancel]).content == "first"
    films.id = "4"
    films.response_metadata = {"tokens": 7}
    assert model.invoke([system, films, again]).content == "first"
    assert model.invoke([system, gym, cancel]).content == "second"
    assert model.invoke([films, cancel]).content == "third"
    blocks = [{"type": "text", "text": "at 0"}, {"type": "image_url", "image_url": "a cat"}]
    assert model.invoke([HumanMessage(blocks)]).content == "fourth"
    near = [{"type": "text", "text": "at 5"}, {"type": "image_url", "image_url": "a cat"}]
    assert model.invoke([HumanMessage(near)]).content == "fourth"
    near[1] = {"type": "image_url", "image_url": "a dog"}
    assert model.invoke([HumanMessage(near)]).content == "fifth"
    embedded = get_llm_cache().cache._embed.__self__.asked
    assert set(embedded) == {"yes, cancel it 0", "cancel it, yes 10", "at 0", "at 5"}


@pytest.mark.usefixtures("_no_cache_after")
def test_what_a_tool_answers_is_no_question(url):
    model = chat(url, ["warm", "cold"])
    call = AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": "1"}])
    for degrees, answer in ((20, "warm"), (1, "cold")):
        asked = [HumanMessage("at 0"), call, ToolMessage(str(degrees), tool_call_id="1")]
        assert model.invoke(asked).content == answer


@pytest.mark.usefixtures("_no_cache_after")
def test_chats_of_asyncio_are_found_by_threads(url):
    model = chat(url, ["first"])

    async def work():
        return (await model.ainvoke([HumanMessage("at 0")])).content

    assert asyncio.run(work()) == model.invoke([HumanMessage("at 3")]).content == "first"
