"""The cache of answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import litellm

from mlserve import calls
from mlserve._methods import checked
from mlserve._steps import ask, missed
from mlserve.client import Client
from mlserve.errors import Error
from mlserve.litellm._backend import Backend
from mlserve.litellm._settings import Settings, configured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlserve.calls import Call

__all__ = ["MlserveCache", "put_in_force"]


class MlserveCache(Backend):
    """A cache of LiteLLM, for threads and asyncio; it connects with the first call.

    LiteLLM's key is a hash of the model and of all that counts in a request. So the version
    is not the model's but the operator's: answers of another `version` are not served, and
    `client.cacheversionset("litellm", ["2"])` retires all but version 2, in all processes at
    once. While the server is away nothing is found and nothing is kept.
    """

    __slots__ = ("client",)

    def __init__(self, url: str | list[str], **settings: Any) -> None:
        """Connect to `url`; the other settings are those of `Settings`."""
        super().__init__(Settings(url, **settings))
        self.client = self._settings.client(Client)

    def _key(self, key: str) -> str:
        return f"{self._settings.namespace}:{key}"

    def _get(self, key: str) -> Call[bytes | None]:
        return calls.cacheget(self._key(key), self._settings.version)

    def _set(self, key: str, value: Any, settings: dict[str, Any]) -> Call[bool] | None:
        """None where the request wants nothing kept: a `ttl` of 0."""
        ttl = self._settings.ttl_of(settings)
        if ttl == 0:
            return None
        return calls.cacheset(self._key(key), self._settings.version, json.dumps(value), ttl=ttl)

    def _set_all(
        self, values: Iterable[tuple[str, Any]], settings: dict[str, Any]
    ) -> Call[list[bool]] | None:
        ttl = self._settings.ttl_of(settings)
        kept: dict[str | bytes, Any] = {self._key(key): json.dumps(one) for key, one in values}
        if ttl == 0 or not kept:
            return None
        return calls.cachemset(kept, self._settings.version, ttl=ttl)

    def _probe(self) -> Call[Any]:
        return self._get("")

    def get_cache(self, key: str, **settings: Any) -> Any:  # noqa: ARG002
        """The answer, or None."""
        try:
            return read(ask(self.client, self._get(key)))
        except Error as error:
            return missed(error)

    def set_cache(self, key: str, value: Any, **settings: Any) -> None:
        """Keep an answer, `ttl` seconds."""
        call = self._set(key, value, settings)
        if call is not None:
            try:
                ask(self.client, call)
            except Error as error:
                missed(error)

    async def async_get_cache(self, key: str, **settings: Any) -> Any:  # noqa: ARG002
        """`get_cache` for asyncio."""
        try:
            return read(await self.server.ask(self._get(key)))
        except Error as error:
            return missed(error)

    async def async_set_cache(self, key: str, value: Any, **settings: Any) -> None:
        """`set_cache` for asyncio."""
        await self._keep(self._set(key, value, settings))

    async def async_set_cache_pipeline(
        self, cache_list: Iterable[tuple[str, Any]], **settings: Any
    ) -> None:
        """Keep several answers, (key, value) each, in one call."""
        await self._keep(self._set_all(cache_list, settings))

    async def _keep(self, call: Call[Any] | None) -> None:
        if call is not None:
            try:
                await self.server.ask(call)
            except Error as error:
                missed(error)

    async def delete_cache_keys(self, keys: Iterable[str]) -> None:
        """Forget some answers, of all versions."""
        checked(await self.server.ask_all([calls.cachedrop(self._key(key)) for key in keys]))

    async def disconnect(self) -> None:
        """Close the connections."""
        self.client.close()
        await super().disconnect()


def read(answer: bytes | None) -> Any:
    """What was kept."""
    return None if answer is None else json.loads(answer)


def put_in_force() -> None:
    """Make it the cache of this process, as the proxy's configuration says."""
    settings = configured()
    backend = MlserveCache(**vars(settings))
    # By this type the proxy's routes to ping the cache and to delete from it are open.
    litellm.cache = litellm.Cache(type="redis", _backend=backend, **settings.cache_params or {})
