"""The semantic cache in the real LiteLLM, without its proxy."""

import asyncio
import os
import time

import litellm
import pytest
import redis.asyncio
from mlserve.litellm import MlserveSemanticCache
from mlserve.server import Server


def embed(text):
    """How often each letter comes: "cats" and "cat s" are as similar as can be."""
    return [text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture
def url():
    with Server(module=os.environ["MLSERVE_MODULE"]) as server:
        yield server.url


@pytest.fixture
def cache(url):
    backend = MlserveSemanticCache(url, embed, embedder="letters", maybe=0.5, judge=judge)
    litellm.cache = litellm.Cache(type="redis-semantic", _backend=backend, ttl=60)
    yield backend
    litellm.cache = None


def judge(prompt, candidate):
    return "fish" in prompt and "fish" in candidate.prompt


def user(text):
    return {"role": "user", "content": text}


def ask(*messages, answer, **more):
    request = {"model": "gpt-4o", "messages": list(messages), "mock_response": answer, "caching": True}
    return litellm.completion(**request, **more)


def said(response):
    return response.choices[0].message.content


async def ask_later(url, *messages, answer):
    """What is said; kept, too, if it is new: LiteLLM keeps answers in a task of its own."""
    async with redis.asyncio.from_url(url) as client:

        async def kept():
            return (await client.info("ml"))["ml_semantic_entries_written"]

        before = await kept()
        request = {"model": "gpt-4o", "messages": list(messages), "mock_response": answer}
        response = await litellm.acompletion(**request, caching=True)
        deadline = time.monotonic() + 20
        while said(response) == answer and await kept() == before:
            assert time.monotonic() < deadline, "the answer is not kept"
            await asyncio.sleep(0.001)
    return said(response)


def test_nearly_the_same_chat_is_answered(cache):
    first = ask(user("do cats purr"), answer="they do")
    assert said(first) == "they do"
    near = ask(user("do cats purr?"), answer="another")
    assert (said(near), near.id) == ("they do", first.id)
    assert said(ask(user("what is the moon"), answer="a rock")) == "a rock"
    # Another model, other settings, another history, another user of the proxy.
    assert said(ask(user("do cats purr"), answer="b", temperature=0.5)) == "b"
    assert said(ask(user("hi"), user("do cats purr"), answer="c")) == "c"
    metadata = {"user_api_key": "another"}
    assert said(ask(user("do cats purr"), answer="d", metadata=metadata)) == "d"
    # What is in doubt is judged.
    assert said(ask(user("do fish sleep at night"), answer="e")) == "e"
    assert said(ask(user("do fish sleep by night, all"), answer="f")) == "e"


def test_asyncio_finds_what_threads_have_kept(cache, url):
    ask(user("do cats purr"), answer="they do")

    async def work():
        assert await ask_later(url, user("do cats purr!"), answer="x") == "they do"
        assert await ask_later(url, user("what is the moon"), answer="a rock") == "a rock"
        return await ask_later(url, user("what is the moon?"), answer="y")

    assert asyncio.run(work()) == "a rock"


def test_embeddings_are_neither_found_nor_kept(cache):
    asked = {"model": "text-embedding-3-small", "input": ["one"], "caching": True}
    for number in (1.0, 2.0):
        mocked = litellm.embedding(**asked, mock_response=[number] * 3)
        assert mocked.data[0]["embedding"][0] == number
