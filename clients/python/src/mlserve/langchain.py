"""A cache of LangChain: answers of models by their prompts.

```python
from langchain_core.globals import set_llm_cache
from mlserve.langchain import MlserveCache

set_llm_cache(MlserveCache("redis://127.0.0.1:6379", ttl=3600))
```

The model and its settings, which LangChain writes as a long text, are the version: its
hash. The key is the namespace and the hash of the prompt. LangChain asks and sets in two
calls that nothing joins, so single flight is not possible here: what is missed at once is
computed as often. `mlserve.cached` around the call has it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.load import dumps, loads

from mlserve import aio
from mlserve._clear import aclear, clear
from mlserve.client import Client

if TYPE_CHECKING:
    from mlserve.calls import Seconds

__all__ = ["MlserveCache"]


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
        return read(self.client.cacheget(*self._names(prompt, llm_string)))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        names = self._names(prompt, llm_string)
        self.client.cacheset(*names, dumps(return_val), ttl=self._ttl)

    def clear(self, **_: Any) -> None:
        """Remove all answers of the namespace. O(all keys there are)."""
        clear(self.client, self._prefix)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answer, or None."""
        return read(await self.aclient.cacheget(*self._names(prompt, llm_string)))

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        names = self._names(prompt, llm_string)
        await self.aclient.cacheset(*names, dumps(return_val), ttl=self._ttl)

    async def aclear(self, **_: Any) -> None:
        """Remove all answers of the namespace. O(all keys there are)."""
        await aclear(self.aclient, self._prefix)


def digest(text: str) -> str:
    """The hash of a text; lone surrogates, which JSON may bring, are hashed as they are."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def read(answer: bytes | None) -> RETURN_VAL_TYPE | None:
    """The generations that an answer holds."""
    if answer is None:
        return None
    generations: RETURN_VAL_TYPE = loads(answer.decode(), allowed_objects="core")
    return generations
