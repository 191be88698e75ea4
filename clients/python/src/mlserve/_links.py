"""How connections are made: by redis-py or valkey-py, whose own retries and pools are left out.

Of either library only the connections are used. Its clients would repeat a call that may
not be repeated, and know nothing of a call's deadline.
"""

from __future__ import annotations

import asyncio
import select
from importlib import import_module
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mlserve.calls.call import word_of
from mlserve.errors import TimedOut, Unavailable, code_of, response_error

if TYPE_CHECKING:
    from mlserve.calls import Call
    from mlserve.errors import Error

Library: TypeAlias = Literal["redis", "valkey"]
Address: TypeAlias = tuple[str, int] | str
"""A host and a port, or the path of a socket."""

SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
"""What redis-py calls the schemes of valkey-py."""

LEAST = 0.001
"""Seconds; a time-out of 0 would mean not to wait at all."""


def library_for(scheme: str, library: Library | None) -> Library:
    """The library asked for; else valkey-py for its own schemes where it is installed."""
    if library is not None:
        if library not in ("redis", "valkey"):
            raise ValueError(f"library must be redis or valkey: {library!r}")
        return library
    if scheme in SCHEMES and find_spec("valkey") is not None:
        return "valkey"
    return "redis"


class Links:
    """Makes connections, all with the same options."""

    def __init__(self, library: Library, options: dict[str, Any], *, asynchronous: bool) -> None:
        """By this library, with these options of its connections."""
        place = f"{library}.asyncio.connection" if asynchronous else f"{library}.connection"
        self.library = library
        errors = import_module(f"{library}.exceptions")
        self.response_errors: type[Exception] = errors.ResponseError
        self.lost_errors: tuple[type[Exception], ...] = (
            errors.ConnectionError,
            errors.TimeoutError,
            # What a parser makes of bytes that are no protocol.
            errors.InvalidResponse,
            OSError,
            # Before Python 3.11 not an OSError.
            asyncio.TimeoutError,
        )
        self.timeout_errors = (errors.TimeoutError, TimeoutError, asyncio.TimeoutError)
        kind = options.pop("connection_class", import_module(place).Connection)
        self._kind: Any = kind if asynchronous else timed(kind)
        # Bytes stay bytes, and time is kept by the client.
        self.options = {"protocol": 3, **options, "decode_responses": False}
        # Some calls are packed before a connection is known; a key is the same in all of them.
        self.options.update(encoding="utf-8", encoding_errors="strict")
        self.options.update(retry=None, retry_on_timeout=False, health_check_interval=0)
        # By asyncio a task would be made for each read that has a time-out of its own.
        self.options.update(socket_timeout=None, socket_connect_timeout=None)

    @classmethod
    def from_url(
        cls, url: str, library: Library | None, options: dict[str, Any], *, asynchronous: bool
    ) -> tuple[Links, Address]:
        """By the URL, whose options are overruled by these; and the address in it."""
        scheme, _, rest = url.partition("://")
        chosen = library_for(scheme, library)
        if chosen == "redis":
            url = f"{SCHEMES.get(scheme, scheme)}://{rest}"
        place = f"{chosen}.asyncio.connection" if asynchronous else f"{chosen}.connection"
        found: dict[str, Any] = {**import_module(place).parse_url(url), **options}
        address: Address
        if "path" in found:
            address = found.pop("path")
        else:
            address = (found.pop("host", "localhost"), found.pop("port", 6379))
        return cls(chosen, found, asynchronous=asynchronous), address

    def new(self, address: Address) -> Any:
        """A connection that is not open yet."""
        if isinstance(address, str):
            return self._kind(path=address, **self.options)
        host, port = address
        return self._kind(host=host, port=port, socket_keepalive=True, **self.options)


def timed(kind: Any) -> Any:
    """A class of connections of which every step ends at a deadline."""

    class Timed(kind):  # type: ignore[misc]
        until = 0.0
        _sock: Any
        _poll: Any

        def open(self, until: float) -> None:
            """Connect, greet, and authenticate."""
            self.until = until
            # A name may stand for two addresses, which are tried in turn.
            self.socket_connect_timeout = max((until - monotonic()) / 2, LEAST)
            self.socket_timeout = max(until - monotonic(), LEAST)
            self.connect()
            self._poll = select.poll()
            self._poll.register(self._sock, select.POLLIN)

        def idle(self) -> bool:
            """Whether it may be used: the server has neither closed it nor said anything."""
            return not self._poll.poll(0)

        def arm(self, until: float) -> None:
            """Have what comes next end at this moment."""
            self.until = until
            self._sock.settimeout(max(until - monotonic(), LEAST))

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            """An answer; each of a greeting has what is left of the time."""
            self._sock.settimeout(max(self.until - monotonic(), LEAST))
            return super().read_response(*arguments, **options)

    return Timed


ASKING = b"*1\r\n$6\r\nASKING\r\n"


def packed(connection: Any, call: Call[Any], asking: bool) -> list[bytes]:
    """What is sent for a call."""
    words = call.words
    chunks: list[bytes]
    if isinstance(words, bytes):
        chunks = [words]
    else:
        try:
            chunks = connection.pack_command(*words)
        except Exception:
            # One of a type that the library does not know: what it is, or a TypeError.
            name = f"an argument of {call.name}"
            chunks = connection.pack_command(*(word_of(name, word) for word in words))
    return [ASKING, *chunks] if asking else chunks


def failure(links: Links, address: Address, error: Exception, *, sent: bool) -> Error:
    """What a library raises for a connection, as one of ours."""
    if code_of(error) in ("NOAUTH", "WRONGPASS"):
        return response_error(error, "AUTH")
    place = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
    refused = code_of(error) == "LOADING"
    if isinstance(error, links.timeout_errors):
        return TimedOut(f"{place} did not answer in time", sent=sent)
    return Unavailable(f"{place}: {error}", sent=sent and not refused)


def exhausted(limit: int, waiting: int) -> TimedOut:
    """No connection came free in time."""
    return TimedOut(
        f"all of {limit} connections are in use, {waiting} of them by calls that wait in the "
        "server, which may have three quarters: raise max_connections"
    )
