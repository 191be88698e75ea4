"""What both caches of LiteLLM have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litellm.caching.base_cache import BaseCache

from mlserve.errors import Error
from mlserve.litellm._apart import Apart

if TYPE_CHECKING:
    from mlserve.calls import Call
    from mlserve.litellm._settings import Settings

__all__ = ["Backend"]


class Backend(BaseCache):
    """A cache of LiteLLM with a client of asyncio in a thread of its own."""

    # Not in vars(), which the proxy writes out, objects and all, when it is asked for its health.
    __slots__ = ("_settings", "server")

    def __init__(self, settings: Settings) -> None:
        """Of the server that the settings name; it connects with the first call."""
        super().__init__()
        self._settings = settings
        self.server = Apart(settings)

    def _probe(self) -> Call[Any]:
        """A call that only a server with the module answers."""
        raise NotImplementedError

    async def batch_cache_write(self, key: str, value: Any, **settings: Any) -> None:
        """Keep an answer: nothing is held back to be written together."""
        await self.async_set_cache(key, value, **settings)

    async def ping(self) -> bool:
        """True; raises mlserve.Error where the server is away or has no module."""
        await self.server.ask(self._probe())
        return True

    async def test_connection(self) -> dict[str, str]:
        """Whether the server answers, and has the module."""
        try:
            await self.ping()
        except Error as error:
            return {
                "status": "failed",
                "message": f"mlserve does not answer: {error}",
                "error": str(error),
            }
        return {"status": "success", "message": "mlserve answers"}

    async def disconnect(self) -> None:
        """Close the connections."""
        await self.server.close()
