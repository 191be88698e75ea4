"""The online store, and its settings."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.repo_config import FeastConfigBaseModel

from mlserve import aio, calls
from mlserve._clear import clear
from mlserve._drive import drive, drive_async
from mlserve.client import Client
from mlserve.feast._keys import prefix_of_joined
from mlserve.feast._reads import filled, read_of, view_of
from mlserve.feast._writes import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlserve.calls import Call
    from mlserve.feast._reads import Read
    from mlserve.feast._writes import Row

C = TypeVar("C", Client, aio.Client)


class MlserveOnlineStoreConfig(FeastConfigBaseModel):
    """Settings of the online store; those of Feast's Redis store, and some of the client."""

    type: Literal["mlserve.feast.MlserveOnlineStore"] = "mlserve.feast.MlserveOnlineStore"

    redis_type: Literal["redis", "redis_cluster", "redis_sentinel"] = "redis"
    """Whether the connection string names a server, nodes of a cluster, or sentinels."""

    connection_string: str = "localhost:6379"
    """As Feast's Redis store has it, `host:port,host:port,password=…,db=0,ssl=true`; or
    URLs, such as `redis://user:password@host:6379/0`, with commas between them. The protocol
    is RESP3: `protocol=2` is an error."""

    sentinel_master: str = "mymaster"
    """The name of the primary, where the connection string names sentinels."""

    ttl_from: Literal["write", "event_time"] = "write"
    """What the ttl of a feature view counts from. Feast's Redis store has no such ttl; from
    the event time, rows older than the ttl are not served at all."""

    key_ttl_seconds: int | None = None
    """Seconds after its write that a view of a row expires, if its ttl does not end before."""

    full_scan_for_deletion: bool = True
    """Whether the rows of a feature view that is deleted are looked for and removed."""

    timeout: float = 2.0
    """Seconds that a call may take; a read is one, so are 100 rows that are written."""

    max_connections: int = 64
    """To a server, at most."""

    library: Literal["redis", "valkey"] | None = None
    """Whose connections are used; None: redis-py's, or valkey-py's for its own schemes."""


def client_of(settings: Any, kind: type[C]) -> C:
    """A client of either kind; by the settings of Feast's Redis store, the rest as it comes."""
    ours = isinstance(settings, MlserveOnlineStoreConfig)
    if not ours:
        settings = MlserveOnlineStoreConfig(
            redis_type=settings.redis_type.value,
            connection_string=settings.connection_string,
            sentinel_master=settings.sentinel_master,
        )
    urls, options = addresses_of(settings.connection_string)
    if ours and any(protocol != "3" for protocol in protocols_of(urls, options)):
        raise ValueError(
            "connection_string: protocol must be 3, by which a null of strings is told from '0'"
        )
    options = {"timeout": settings.timeout, **options}
    options |= {"max_connections": settings.max_connections, "library": settings.library}
    if settings.redis_type == "redis_cluster":
        return kind.cluster(*urls, **options)
    if settings.redis_type == "redis_sentinel":
        scheme = urls[0].partition("://")[0]
        return kind.sentinel(f"{scheme}://{settings.sentinel_master}", urls, **options)
    return kind.from_url(urls[0], **options)


def addresses_of(connection_string: str) -> tuple[list[str], dict[str, Any]]:
    """The URLs of the servers, and options of their connections."""
    words = connection_string.split(",")
    if "://" in connection_string:
        return words, {}
    options: dict[str, Any] = {}
    for name, _, text in (word.partition("=") for word in words if "=" in word):
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    for name in ("username", "password"):
        if name in options:
            options[name] = str(options[name])
    scheme = "rediss" if options.pop("ssl", False) else "redis"
    if "socket_timeout" in options:
        options["timeout"] = options.pop("socket_timeout")
    urls = [f"{scheme}://{word}" for word in words if "=" not in word]
    if not urls:
        raise ValueError(f"connection_string names no server: {connection_string!r}")
    return urls, options


def protocols_of(urls: Sequence[str], options: Mapping[str, Any]) -> Iterator[str]:
    """The versions of RESP that are asked for."""
    yield str(options.get("protocol", 3))
    for url in urls:
        yield from parse_qs(urlsplit(url).query).get("protocol", [])


class MlserveOnlineStore(OnlineStore):
    """An online store of Feast: an entity is a row, a feature view one of its views.

    A row's event time is that of its view; what is older than it changes nothing, what is
    as old is written. The ttl of a feature view is kept by the server.
    """

    _client: Client | None = None
    _client_async: aio.Client | None = None

    def __init__(self) -> None:
        """Without connections; they are opened with the first call."""
        self.plans: dict[Any, Any] = {}

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Both reads and writes."""
        return SupportedAsyncMethods(read=True, write=True)

    def _is_versioned_read_supported(self) -> bool:
        """Views of several versions have names of their own."""
        return True

    def client(self, config: Any) -> Client:
        """The client for threads; it is made once."""
        if self._client is None:
            self._client = client_of(config.online_store, Client)
        return self._client

    def client_async(self, config: Any) -> aio.Client:
        """The client for asyncio; it is made once."""
        if self._client_async is None:
            self._client_async = client_of(config.online_store, aio.Client)
        return self._client_async

    def ask(self, config: Any, several: Sequence[Call[Any]]) -> list[Any]:
        """The answers to calls, in one round trip."""
        client = self.client(config)
        if len(several) == 1:
            return [client.run(several[0])]
        pipeline = client.pipeline()
        for call in several:
            pipeline.run(call)
        return pipeline.execute()

    async def ask_async(self, config: Any, several: Sequence[Call[Any]]) -> list[Any]:
        """The answers to calls, in one round trip."""
        client = self.client_async(config)
        if len(several) == 1:
            return [await client.run(several[0])]
        pipeline = client.pipeline()
        for call in several:
            pipeline.run(call)
        return await pipeline.execute()

    # --- writing --------------------------------------------------------------

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows of a feature view, the older first.

        A row with all features replaces the view of its entity; one with some of them
        leaves the others. Raises ValueError, before anything is written, for a value of
        another type than its feature is declared with.
        """
        for batch in batches(config, table, data):
            self.ask(config, batch)
            if progress:
                progress(len(batch))

    async def online_write_batch_async(
        self,
        config: Any,
        table: Any,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """`online_write_batch` for asyncio."""
        for batch in batches(config, table, data):
            await self.ask_async(config, batch)
            if progress:
                progress(len(batch))

    def update(
        self,
        config: Any,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],  # noqa: ARG002
        entities_to_delete: Sequence[Any],  # noqa: ARG002
        entities_to_keep: Sequence[Any],  # noqa: ARG002
        partial: bool,  # noqa: ARG002
    ) -> None:
        """Remove the views of feature views that are deleted. O(all keys there are)."""
        if not config.online_store.full_scan_for_deletion:
            return
        for table in tables_to_delete:
            remove = functools.partial(calls.featuredel, view=view_of(config, table))
            clear(self.client(config), prefix_of_joined(config, table.join_keys), remove)

    def teardown(
        self,
        config: Any,
        tables: Sequence[Any],
        entities: Sequence[Any],  # noqa: ARG002
    ) -> None:
        """Remove the project's rows of the entities that these feature views are of."""
        client = self.client(config)
        for names in {tuple(sorted(table.join_keys)) for table in tables}:
            clear(client, prefix_of_joined(config, names))

    # --- reading --------------------------------------------------------------

    def online_read(
        self,
        config: Any,
        table: Any,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> Read:
        """Read features of a view: an event time and Values by name, for each entity."""
        return drive(
            read_of(config, table, entity_keys, requested_features),
            functools.partial(self.ask, config),
        )

    async def online_read_async(
        self,
        config: Any,
        table: Any,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> Read:
        """`online_read` for asyncio."""
        return await drive_async(
            read_of(config, table, entity_keys, requested_features),
            functools.partial(self.ask_async, config),
        )

    # What get_online_features calls, private to Feast: all views of a request at once.

    def _read_features_per_fv(self, config: Any, *request: Any) -> None:
        drive(filled(config, *request), functools.partial(self.ask, config))

    async def _read_features_per_fv_async(self, config: Any, *request: Any) -> None:
        await drive_async(filled(config, *request), functools.partial(self.ask_async, config))

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        client_async, self._client_async = self._client_async, None
        if client_async is not None:
            await client_async.aclose()
