"""Caches of LangChain: answers of models by their prompts, or by nearly the same prompt.

```python
from langchain_core.globals import set_llm_cache
from mlserve.langchain import MlserveCache

set_llm_cache(MlserveCache("redis://127.0.0.1:6379", ttl=3600))
```

The model and its settings, which LangChain writes as a long text, are the version: its
hash. The key is the namespace and the hash of the prompt. LangChain asks and sets in two
calls that nothing joins, so single flight is not possible here: what is missed at once is
computed as often. `mlserve.cached` around the call has it.

While the server is away nothing is found and nothing is kept, which is logged: the model is
asked.

`MlserveSemanticCache` answers nearly the same question as well, by LangChain's embeddings:

```python
set_llm_cache(MlserveSemanticCache("redis://127.0.0.1:6379", embeddings, embedder="minilm"))
```
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.load import dumps, loads

from mlserve import aio, calls
from mlserve._clear import aclear, clear
from mlserve._messages import question_of
from mlserve._steps import Steps, logger, missed, run, run_async
from mlserve.client import Client
from mlserve.errors import Error
from mlserve.semantic import SemanticCache, is_judge, looked_up

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from mlserve.calls import Seconds
    from mlserve.semantic import Judge, Question

__all__ = ["MlserveCache", "MlserveSemanticCache"]


class MlserveCache(BaseCache):
    """A cache of LangChain; its clients, sync and asyncio, connect with the first call."""

    def __init__(
        self, url: str, *, ttl: Seconds | None = None, namespace: str = "llm", **options: Any
    ) -> None:
        """Keep answers for `ttl` seconds (`ml.cache-ttl` if None) in a namespace.

        Further options are those of `mlserve.Client.from_url`.
        """
        self.client = Client.from_url(url, **options)
        self.aclient = aio.Client.from_url(url, **options)
        self._ttl = ttl
        self._prefix = f"{namespace}:"

    def _names(self, prompt: str, llm_string: str) -> tuple[str, str]:
        """The key and the version."""
        return self._prefix + digest(prompt), digest(llm_string)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer, or None."""
        return run(self.client, self._looked_up(prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        run(self.client, self._updated(prompt, llm_string, return_val))

    def clear(self, **_: Any) -> None:
        """Remove all answers of the namespace. O(all keys there are)."""
        clear(self.client, self._prefix)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer, or None."""
        return await run_async(self.aclient, self._looked_up(prompt, llm_string))

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        await run_async(self.aclient, self._updated(prompt, llm_string, return_val))

    async def aclear(self, **_: Any) -> None:
        """Remove all answers of the namespace. O(all keys there are)."""
        await aclear(self.aclient, self._prefix)

    def _looked_up(self, prompt: str, llm_string: str) -> Steps[RETURN_VAL_TYPE | None]:
        try:
            return read((yield calls.cacheget(*self._names(prompt, llm_string))))
        except Error as error:
            missed(error)
            return None

    def _updated(self, prompt: str, llm_string: str, value: RETURN_VAL_TYPE) -> Steps[None]:
        names = self._names(prompt, llm_string)
        try:
            yield calls.cacheset(*names, dumps(value), ttl=self._ttl)
        except Error as error:
            missed(error)


class MlserveSemanticCache(BaseCache):
    """A semantic cache of LangChain; its clients, sync and asyncio, connect with the first call.

    What is compared is the question: a prompt of text, or the text of the last message of a
    chat, if that is a user's. The model and its settings, and all that was said before, are
    the scope: they must be the very same. Other chats are neither found nor kept; nor is
    anything while the server is away, or where the embedding fails, which is logged.
    """

    def __init__(
        self,
        url: str,
        embeddings: Embeddings,
        *,
        embedder: str,
        hit: float = 0.95,
        maybe: float | None = None,
        judge: Judge | None = None,
        version: str | bytes = "1",
        ttl: Seconds | None = None,
        namespace: str = "semantic",
        **options: Any,
    ) -> None:
        """Serve what is as similar as `hit`, and as `maybe` where `judge` accepts it.

        `embedder` names the embeddings: see `mlserve.SemanticCache`, and
        `mlserve.semantic_cached` for the judge, which may be `async` where nothing but
        asyncio is used. `version` is the operator's: answers of another are not served.
        Further options are those of `mlserve.Client.from_url`.
        """
        self.client = Client.from_url(url, **options)
        self.aclient = aio.Client.from_url(url, **options)
        how: Any = {
            "embedder": embedder, "version": version, "name": namespace, "hit": hit,
            "maybe": maybe, "ttl": ttl, "serializer": Generations,
        }  # fmt: skip
        self.cache = SemanticCache(self.client, embeddings.embed_query, **how)
        self.acache = SemanticCache(self.aclient, embeddings.aembed_query, **how)
        if judge is not None:
            is_judge(self.acache, judge)
        self._judge = judge
        self._prefix = f"{namespace}:"

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer to nearly the same question, or None."""
        return run(self.client, self._looked_up(self.cache, prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        run(self.client, self._updated(self.cache, prompt, llm_string, return_val))

    def clear(self, **_: Any) -> None:
        """Remove all answers of the namespace. O(all keys there are)."""
        clear(self.client, self._prefix)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer to nearly the same question, or None."""
        return await run_async(self.aclient, self._looked_up(self.acache, prompt, llm_string))

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        steps = self._updated(self.acache, prompt, llm_string, return_val)
        await run_async(self.aclient, steps)

    async def aclear(self, **_: Any) -> None:
        """Remove all answers of the namespace. O(all keys there are)."""
        await aclear(self.aclient, self._prefix)

    def _looked_up(
        self, cache: SemanticCache, prompt: str, llm_string: str
    ) -> Steps[RETURN_VAL_TYPE | None]:
        question = yield from self._asked(cache, prompt, llm_string)
        if question is None:
            return None
        try:
            _, answer = yield from looked_up(cache, question, self._judge)
        except Error as error:
            missed(error)
            return None
        return None if answer is None else answer.value

    def _updated(
        self, cache: SemanticCache, prompt: str, llm_string: str, value: RETURN_VAL_TYPE
    ) -> Steps[None]:
        question = yield from self._asked(cache, prompt, llm_string)
        if question is not None:
            try:
                yield from cache.setting(question, value)
            except Error as error:
                missed(error)

    def _asked(self, cache: SemanticCache, prompt: str, llm_string: str) -> Steps[Question | None]:
        """The question of a prompt; None where there is none, or it cannot be embedded."""
        asked = asked_by(prompt)
        if asked is None:
            return None
        try:
            vector = yield cache.embedding(asked[0])
        except Exception as error:
            logger.warning("mlserve: a question of %s is not embedded: %s", cache.name, error)
            return None
        return cache.question(asked[0], cache.key((llm_string, asked[1])), vector)


class Generations:
    """Generations as LangChain writes them."""

    @staticmethod
    def dumps(value: Any, /) -> bytes:
        """Generations as bytes."""
        return dumps(value).encode(errors="surrogatepass")

    @staticmethod
    def loads(data: bytes, /) -> Any:
        """The generations of these bytes."""
        return read(data)


OF_THE_CALL = ("id", "response_metadata", "usage_metadata")
"""What messages tell that nobody said."""


def asked_by(prompt: str) -> tuple[str, Any] | None:
    """The question of a prompt, and what it is asked in; None where there is none."""
    messages = messages_of(prompt)
    if messages is None:
        return (prompt, ()) if prompt.strip() else None
    return question_of(messages)


def messages_of(prompt: str) -> list[dict[str, Any]] | None:
    """The messages of a chat, which LangChain writes as JSON; None of a prompt of text."""
    if not prompt.startswith('[{"lc":'):
        return None
    messages = []
    for written in json.loads(prompt):
        said = {name: one for name, one in written["kwargs"].items() if name not in OF_THE_CALL}
        kind = said.pop("type", None)
        messages.append({**said, "role": "user" if kind == "human" else kind})
    return messages


def digest(text: str) -> str:
    """The hash of a text; lone surrogates, which JSON may bring, are hashed as they are."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def read(answer: bytes | None) -> RETURN_VAL_TYPE | None:
    """The generations that an answer holds."""
    if answer is None:
        return None
    generations: RETURN_VAL_TYPE = loads(answer.decode(), allowed_objects="core")
    return generations
