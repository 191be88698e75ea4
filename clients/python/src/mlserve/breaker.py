"""A circuit breaker: a server that does not answer is not asked for a while.

After `failures` calls in a row without an answer it opens: calls fail at once, by
CircuitOpen. `cooldown` seconds later one call is let through as a probe; its answer closes
the circuit, its failure opens it anew. A client has one, which all its uses share.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from mlserve.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Breaker", "CircuitOpen", "breaker_of"]


class CircuitOpen(Unavailable):
    """The server did not answer of late, and was not asked."""


class Breaker:
    """The circuit breaker of a client; for threads and asyncio alike."""

    def __init__(self, failures: int = 5, cooldown: float = 1.0) -> None:
        """Open after so many failures in a row, for so many seconds."""
        if failures < 1:
            raise ValueError(f"failures must be at least 1: {failures!r}")
        if cooldown <= 0:
            raise ValueError(f"cooldown must be seconds, above 0: {cooldown!r}")
        self.failures = failures
        self.cooldown = cooldown
        self._failed = 0
        self._until = 0.0
        self._probing = False
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once, but for a probe."""
        return self._failed >= self.failures

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Let one call through, and learn from what becomes of it."""
        probe = self.is_open and self._probe()
        try:
            yield
        except Unavailable:
            self._lost()
            raise
        except Exception:
            # An error that the server answered is an answer.
            self._failed = 0
            raise
        else:
            self._failed = 0
        finally:
            if probe:
                self._probing = False

    def _probe(self) -> bool:
        with self._lock:
            if self._probing or monotonic() < self._until:
                raise CircuitOpen("the server did not answer of late, and is not asked for now")
            self._probing = True
            return True

    def _lost(self) -> None:
        with self._lock:
            self._failed += 1
            self._until = monotonic() + self.cooldown


_breakers: weakref.WeakKeyDictionary[Any, Breaker] = weakref.WeakKeyDictionary()


def breaker_of(client: Any) -> Breaker:
    """The breaker that all uses of a client share; its attributes may be set."""
    breaker = _breakers.get(client)
    if breaker is None:
        breaker = _breakers.setdefault(client, Breaker())
    return breaker
