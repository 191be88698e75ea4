"""What the proxy's configuration says under `callback_settings`, `mlserve`."""

from __future__ import annotations

import dataclasses
import datetime
import math
from typing import TYPE_CHECKING, Any, TypeVar

import litellm

from mlserve import calls

if TYPE_CHECKING:
    from mlserve import aio
    from mlserve.calls import Algorithm
    from mlserve.client import Client

    C = TypeVar("C", Client, aio.Client)

__all__ = ["Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the limiter and the cache are told."""

    url: str | list[str]
    """Of the server, `redis://127.0.0.1:6379`; of some nodes of a cluster, a list."""
    sentinels: list[str] | None = None
    """URLs of sentinels: the host in `url` is the name of the primary then."""
    timeout: float = 2.0
    """Seconds that a call of the server may take: a busy worker is late to see the answer."""
    max_connections: int = 64
    namespace: str = "litellm"
    """The first part of all keys."""
    algorithm: Algorithm = "SLIDING"
    """Of the limiter's windows: SLIDING or FIXED."""
    hold: float = 60.0
    """Seconds after which what a dead worker held is free; renewed while a request runs."""
    version: str = "1"
    """Of the cache: answers of another one are not served."""
    ttl: float | None = None
    """Seconds that an answer is kept, if the request says nothing; else as the server is set."""
    cache_params: dict[str, Any] | None = None
    """Further arguments of `litellm.Cache`, such as {"mode": "default_off"}."""
    semantic: dict[str, Any] | None = None
    """Of the semantic cache: see `MlserveSemanticCache`; functions as "module:function"."""

    def __post_init__(self) -> None:
        if self.algorithm not in ("SLIDING", "FIXED"):
            raise ValueError(f"algorithm must be SLIDING or FIXED: {self.algorithm!r}")
        for name in ("timeout", "hold", "ttl"):
            value = getattr(self, name)
            if (name, value) != ("ttl", None) and not (
                isinstance(value, (int, float)) and 0 < value <= 1e6
            ):
                raise ValueError(f"{name} must be seconds, above 0: {value!r}")

    def client(self, kind: type[C]) -> C:
        """A client of the server, the sentinels or the cluster."""
        options: dict[str, Any] = {
            "timeout": self.timeout,
            "max_connections": self.max_connections,
        }
        if isinstance(self.url, list):
            return kind.cluster(*self.url, **options)
        if self.sentinels:
            return kind.sentinel(self.url, self.sentinels, **options)
        return kind.from_url(self.url, **options)

    def ttl_of(self, request: dict[str, Any]) -> float | None:
        """Seconds that an answer is kept, as the request says it, or as the cache is set."""
        asked = request.get("ttl")
        if asked is None:
            return self.ttl
        try:
            seconds = calls.in_seconds(
                asked if isinstance(asked, datetime.timedelta) else float(asked)
            )
        except (TypeError, ValueError):
            return self.ttl
        return max(seconds, 0.0) if math.isfinite(seconds) else self.ttl


def configured() -> Settings:
    """The settings of the proxy's configuration."""
    given = (litellm.callback_settings or {}).get("mlserve") or {}
    where = "callback_settings, mlserve"
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: {name!r} is not known: it may have {', '.join(known)}")
    if "url" not in given:
        raise ValueError(f'{where}: url must be given, such as "redis://127.0.0.1:6379"')
    return Settings(**given)
