"""A backend for dogpile.cache, with its mutex as a lease in the server.

```python
from dogpile.cache import make_region

region = make_region().configure(
    "mlserve", expiration_time=300, arguments={"url": "redis://127.0.0.1:6379", "ttl": 3600}
)
```

The arguments, all optional: `url`, or a `client`; `version`, under which all is kept (the
model's: "1"); `ttl`, seconds that the server keeps a value, longer than the region's
expiration_time (`ml.cache-ttl`); `lease`, seconds after which another process may compute
in place of one that is gone (30).

dogpile.cache expires values by its own clock, so the lease is on a key of its own: the
value's with `:lock` behind it. Who waits for it is told the moment it is given back. It
is not renewed: a computation that takes longer than `lease` may be done twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dogpile.cache import register_backend
from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex

from mlserve.client import Client
from mlserve.results import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["MlserveBackend"]

WAIT = 10.0
"""Seconds that one call waits in the server for a lease, before it asks anew."""


class MlserveBackend(BytesBackend):
    """A backend of dogpile.cache; see the module."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """The arguments of the module's text."""
        self.client: Client = arguments.get("client") or Client.from_url(
            arguments.get("url", "redis://127.0.0.1:6379")
        )
        self.version: str = arguments.get("version", "1")
        self.ttl: float | None = arguments.get("ttl")
        self.lease: float = arguments.get("lease", 30.0)

    def get_mutex(self, key: str) -> Mutex:
        """Make the mutex of a key; a new one has not been acquired."""
        return Mutex(self, f"{key}:lock")

    def has_lock_timeout(self) -> bool:
        """Say that a mutex ends by itself: it is a lease."""
        return True

    def get_serialized(self, key: str) -> Any:
        """A value, or NO_VALUE."""
        value = self.client.cacheget(key, self.version)
        return NO_VALUE if value is None else value

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        """Values in order, each as `get_serialized`."""
        names = list(keys)
        values = self.client.cachemget(names, self.version) if names else []
        return [NO_VALUE if value is None else value for value in values]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Keep a value."""
        self.client.cacheset(key, self.version, value, ttl=self.ttl)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Keep values."""
        if mapping:
            self.client.cachemset(dict(mapping.items()), self.version, ttl=self.ttl)

    def delete(self, key: str) -> None:
        """Drop a value."""
        self.client.cachedrop(key, version=self.version)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Drop values, in one round trip."""
        pipeline = self.client.pipeline()
        for key in keys:
            pipeline.cachedrop(key, version=self.version)
        pipeline.execute()


class Mutex(CacheMutex):
    """A mutex: a lease on a key that never has an answer."""

    def __init__(self, backend: MlserveBackend, key: str) -> None:
        """A mutex of the backend's."""
        self._backend = backend
        self._key = key
        self._token: str | None = None

    def acquire(self, wait: bool = True) -> bool:
        """Take the lease, after those who have it and who came before; or say False."""
        backend = self._backend
        while True:
            fetch = backend.client.cachefetch(
                self._key, backend.version, backend.lease, wait=WAIT if wait else None
            )
            if fetch.status is Status.LEASE:
                self._token = fetch.token
                return True
            if fetch.status is Status.RETIRED:
                # Nothing is kept under this version any more, so nothing is shared.
                return True
            if not wait:
                return False

    def release(self) -> None:
        """Give the lease back; who waits longest has it next."""
        # Forgotten first: threads share a mutex, and who waits has the lease at once.
        token, self._token = self._token, None
        if token is not None:
            self._backend.client.cacherelease(self._key, token)

    def locked(self) -> bool:
        """Whether anybody has it."""
        info = self._backend.client.cacheinfo(self._key)
        return info is not None and info.lease > 0


register_backend("mlserve", "mlserve.dogpile", "MlserveBackend")  # type: ignore[no-untyped-call]
