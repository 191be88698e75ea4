"""The semantic cache of answers."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import litellm

from mlserve import calls
from mlserve._messages import question_of
from mlserve._named import function_of
from mlserve._steps import missed
from mlserve.errors import Error
from mlserve.litellm._backend import Backend
from mlserve.litellm._settings import Settings, configured
from mlserve.semantic import SemanticCache, is_judge, looked_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlserve._steps import Steps
    from mlserve.calls import Call
    from mlserve.semantic import Judge

__all__ = ["MlserveSemanticCache", "put_in_force"]


class MlserveSemanticCache(Backend):
    """A semantic cache of LiteLLM, for threads and asyncio; it connects with the first call.

    It is for chats, that is for requests with `messages`: all others are neither found nor
    kept. What is compared is the text of the last message, if it is a user's. The scope,
    which must be the very same, is what was said before, and LiteLLM's key: for a
    `litellm.Cache` of `type="redis-semantic"` it is a hash of the model, of all that counts
    of a request but what was said, and of whose it is by the proxy's keys.

    Answers of another `version` are not served. While the server is away nothing is found
    and nothing is kept.
    """

    __slots__ = ("_judge", "cache")

    def __init__(
        self,
        url: str | list[str],
        embed: Callable[[str], Any],
        *,
        embedder: str,
        hit: float = 0.95,
        maybe: float | None = None,
        judge: Judge | None = None,
        **settings: Any,
    ) -> None:
        """Connect to `url`; see `mlserve.SemanticCache`, and `semantic_cached` for the judge.

        `embed` and `judge` may be plain, and are called in threads then, or `async`. The
        other settings are those of `Settings`.
        """
        super().__init__(Settings(url, **settings))
        self.cache = SemanticCache(
            self.server.client,
            in_a_thread(embed),
            embedder=embedder,
            version=self._settings.version,
            name=f"{self._settings.namespace}:semantic",
            hit=hit,
            maybe=maybe,
            ttl=self._settings.ttl,
        )
        if judge is not None:
            is_judge(self.cache, judge)
        self._judge = judge and in_a_thread(judge)

    def _probe(self) -> Call[Any]:
        return calls.seminfo(self.cache.key())

    def _looked_up(self, key: str, request: dict[str, Any]) -> Steps[Any]:
        asked = asked_by(request)
        similarity, value = 0.0, None
        if asked is not None:
            try:
                question = yield from self.cache.asking(asked[0], (key, asked[1]))
                found, answer = yield from looked_up(self.cache, question, self._judge)
            except Error as error:
                missed(error)
            else:
                similarity = found.answers[0].similarity if found.answers else 0.0
                value = None if answer is None else answer.value
        metadata = request.get("metadata")
        if isinstance(metadata, dict):
            # By this name LiteLLM tells it to those who log.
            metadata["semantic-similarity"] = similarity
        return value

    def _kept(self, key: str, value: Any, request: dict[str, Any]) -> Steps[None]:
        asked, ttl = asked_by(request), self._settings.ttl_of(request)
        if asked is not None and ttl != 0:
            try:
                yield from self.cache.setting(asked[0], value, (key, asked[1]), ttl)
            except Error as error:
                missed(error)

    def get_cache(self, key: str, **request: Any) -> Any:
        """The answer to nearly the same question, or None."""
        return self.server.wait_for(self._looked_up(key, request))

    def set_cache(self, key: str, value: Any, **request: Any) -> None:
        """Keep an answer, `ttl` seconds."""
        self.server.wait_for(self._kept(key, value, request))

    async def async_get_cache(self, key: str, **request: Any) -> Any:
        """`get_cache` for asyncio."""
        return await self.server.take(self._looked_up(key, request))

    async def async_set_cache(self, key: str, value: Any, **request: Any) -> None:
        """`set_cache` for asyncio."""
        await self.server.take(self._kept(key, value, request))

    async def async_set_cache_pipeline(
        self, cache_list: Iterable[tuple[str, Any]], **request: Any
    ) -> None:
        """Keep nothing: what comes several at once are embeddings."""


def asked_by(request: dict[str, Any]) -> tuple[str, Any] | None:
    """The question of a request, and what it is asked in; None where there is none."""
    return question_of([plain(message) for message in request.get("messages") or ()])


def plain(message: Any) -> dict[str, Any]:
    """A message as a dict: those of answers, which are sent back, are objects."""
    if hasattr(message, "model_dump"):
        message = message.model_dump(exclude_none=True)
    return dict(message)


def in_a_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that does not hold up the event loop."""
    if not callable(function):
        raise TypeError(f"it must be a function: {function!r}")
    if inspect.iscoroutinefunction(function):
        return function

    async def awaited(*args: Any) -> Any:
        answer = await asyncio.to_thread(function, *args)
        return await answer if inspect.isawaitable(answer) else answer

    return awaited


def put_in_force() -> None:
    """Make it the cache of this process, as the proxy's configuration says."""
    settings = configured()
    given = dict(settings.semantic or {})
    where = "callback_settings, mlserve, semantic"
    known = ["embed", "embedder", "hit", "maybe", "judge"]
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: {name!r} is not known: it may have {', '.join(known)}")
    for name in ("embed", "embedder"):
        if name not in given:
            raise ValueError(f"{where}: {name} must be given")
    for name in ("embed", "judge"):
        if isinstance(given.get(name), str):
            given[name] = function_of(given[name])
    backend = MlserveSemanticCache(**given, **vars(settings))
    # By this type LiteLLM leaves what was said out of its key, and puts whose it is in.
    litellm.cache = litellm.Cache(
        type="redis-semantic", _backend=backend, **settings.cache_params or {}
    )
