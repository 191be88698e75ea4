"""What both clients and their pipelines have: the commands, and how a client is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mlserve import calls
from mlserve._links import Links
from mlserve._methods import method, prepared
from mlserve._where import Cluster, Primary, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from mlserve._links import Address, Library

TIMEOUT = 0.5
"""Seconds that a call may take, if nothing else is said."""

MAX_CONNECTIONS = 64
"""How many connections a client has to a server at most, if nothing else is said."""


class Commands:
    """A method for each command."""

    command = method(calls.command)

    ratelimit = method(calls.ratelimit)
    admit = method(calls.admit)
    settle = method(calls.settle)
    renew = method(calls.renew)
    limitinfo = method(calls.limitinfo)

    cacheset = method(calls.cacheset)
    cacheget = method(calls.cacheget)
    cachemget = method(calls.cachemget)
    cachemset = method(calls.cachemset)
    cachedrop = method(calls.cachedrop)
    cachefetch = method(calls.cachefetch)
    cachemfetch = method(calls.cachemfetch)
    cacherenew = method(calls.cacherenew)
    cacherelease = method(calls.cacherelease)
    cacheversion = method(calls.cacheversion)
    cacheversionset = method(calls.cacheversionset)
    cacheinfo = method(calls.cacheinfo)
    stats = method(calls.stats)
    delete = method(calls.delete)

    semset = method(calls.semset)
    semget = method(calls.semget)
    semfetch = method(calls.semfetch)
    semalias = method(calls.semalias)
    semrenew = method(calls.semrenew)
    semrelease = method(calls.semrelease)
    semdrop = method(calls.semdrop)
    semthreshold = method(calls.semthreshold)
    seminfo = method(calls.seminfo)

    serve = method(calls.serve)

    features_of = method(calls.features_of)
    featureget = method(calls.featureget)
    featureget_timed = method(calls.featureget_timed)
    featurejson = method(calls.featurejson)
    featuretensor = method(calls.featuretensor)
    featuregetall = method(calls.featuregetall)
    featureset = method(calls.featureset)
    featuremset = method(calls.featuremset)
    featurepush = method(calls.featurepush)
    featuretally = method(calls.featuretally)
    featuredel = method(calls.featuredel)
    fieldlist = method(calls.fieldlist)
    fieldlists = method(calls.fieldlists)
    featureinfo = method(calls.featureinfo)


class Maker(Commands):
    """How a client of either kind is made."""

    asynchronous: ClassVar[bool]

    features = prepared(calls.Asked)

    def __init__(
        self, links: Links, where: Server, timeout: float = TIMEOUT, max_connections: int = 64
    ) -> None:
        """See `from_url`, `sentinel` and `cluster`."""
        if not isinstance(links, Links):
            raise TypeError("a client is made by from_url, sentinel or cluster")
        if not 0 < timeout < 1e6:
            raise ValueError(f"timeout must be seconds, above 0: {timeout!r}")
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1: {max_connections!r}")
        self._links = links
        self._where = where
        self._timeout = timeout
        self._max_connections = max_connections

    @property
    def timeout(self) -> float:
        """Seconds that a call may take, and what it waits in the server on top."""
        return self._timeout

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout: float = TIMEOUT,
        max_connections: int = MAX_CONNECTIONS,
        library: Library | None = None,
        **options: Any,
    ) -> Self:
        """Make a client of one server; it connects with the first call.

        The URL is one of redis-py or valkey-py: `redis://`, `rediss://` (TLS), `unix://`,
        `valkey://`, `valkeys://`, with user, password and database in it. `timeout` is
        how many seconds a call may take, and what it waits in the server on top.
        `library` is "redis" or "valkey", whose connections are used; else the scheme's.
        Further options are those of the library's connections.
        """
        links, address = Links.from_url(url, library, options, asynchronous=cls.asynchronous)
        return cls(links, Server(address), timeout, max_connections)

    @classmethod
    def sentinel(
        cls,
        url: str,
        sentinels: Sequence[str],
        *,
        timeout: float = TIMEOUT,
        max_connections: int = MAX_CONNECTIONS,
        library: Library | None = None,
        **options: Any,
    ) -> Self:
        """Make a client of the primary that sentinels name; it follows a failover.

        In the URL the name of the primary stands for the host, `redis://mymaster/0`; user
        and password are the primary's. `sentinels` are URLs, such as
        `redis://10.0.0.1:26379`, with credentials of their own.
        """
        links, name = Links.from_url(url, library, options, asynchronous=cls.asynchronous)
        asked = [
            Links.from_url(sentinel, library, {}, asynchronous=cls.asynchronous)
            for sentinel in calls.listed("sentinels", sentinels)
        ]
        where = Primary(asked[0][0], [address for _, address in asked], name[0])
        return cls(links, where, timeout, max_connections)

    @classmethod
    def cluster(
        cls,
        *urls: str,
        timeout: float = TIMEOUT,
        max_connections: int = MAX_CONNECTIONS,
        library: Library | None = None,
        **options: Any,
    ) -> Self:
        """Make a client of a cluster, found by one or more of its nodes.

        User, password and TLS are those of the first URL. `max_connections` is for each
        node. Calls whose keys are in several slots are split and put together again.
        """
        found = [
            Links.from_url(url, library, dict(options), asynchronous=cls.asynchronous)
            for url in calls.listed("urls", urls)
        ]
        links = found[0][0]
        where = Cluster(links, [address for _, address in found])
        return cls(links, where, timeout, max_connections)

    def _at(self, address: Address) -> Self:
        """A client of one of the servers."""
        return type(self)(self._links, Server(address), self._timeout, self._max_connections)
