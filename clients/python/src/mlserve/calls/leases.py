"""What is said in the same words of an answer in either cache, and of the lease on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlserve.calls.call import (
    Call,
    Moment,
    Seconds,
    Word,
    expiry_words,
    flag_of,
    milliseconds,
)

if TYPE_CHECKING:
    from mlserve.results import Key


def set_words(
    ttl: Seconds | None,
    expires_at: Moment | None,
    stale: Seconds | None,
    jitter: int | None,
    token: str | None,
) -> list[Word]:
    """Until when an answer is kept, and the lease that it was computed under."""
    words = expiry_words(ttl, expires_at)
    if stale is not None:
        words += ["STALE", milliseconds("stale", stale)]
    if jitter is not None:
        words += ["JITTER", jitter]
    if token is not None:
        words += ["TOKEN", token]
    return words


def lease_words(lease: Seconds, wait: Seconds | None = None) -> list[Word]:
    """How long who is to compute has, and how long others wait for that."""
    words: list[Word] = ["LEASE", milliseconds("lease", lease, above_0=True)]
    if wait is not None:
        words += ["WAIT", milliseconds("wait", wait)]
    return words


def renewal(command: str, key: Key, token: str, lease: Seconds) -> Call[bool]:
    """What has the time of a lease start anew."""
    words = [command, key, token, milliseconds("lease", lease, above_0=True)]
    return Call(words, flag_of, (key,), again=True)


def giving_up(command: str, key: Key, token: str, backoff: Seconds | None) -> Call[bool]:
    """What gives a lease up."""
    words: list[Word] = [command, key, token]
    if backoff is not None:
        words += ["BACKOFF", milliseconds("backoff", backoff)]
    return Call(words, flag_of, (key,), again=True)
