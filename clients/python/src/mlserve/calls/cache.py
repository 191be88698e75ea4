"""What can be asked of the prediction cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlserve.calls.call import (
    Call,
    Moment,
    Seconds,
    Word,
    all_written,
    as_it_is,
    check_mapping,
    chosen,
    decimals,
    in_order,
    in_seconds,
    listed,
    named,
    new_id,
    nothing,
    text_of,
    word_of,
    written,
)
from mlserve.calls.leases import giving_up, lease_words, renewal, set_words
from mlserve.results import CachedVersion, CacheInfo, Fetch, Key, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STATUSES: dict[Any, Status] = {status.value.encode(): status for status in Status}


def fetch_of(answer: list[Any]) -> Fetch:
    """A status, a value, a token, a time."""
    status, value, token, lasts = answer
    return Fetch(STATUSES[status], value, None if token is None else text_of(token), lasts / 1000)


def fetches_of(answer: list[Any]) -> list[Fetch]:
    """Several of them."""
    return [fetch_of(one) for one in answer]


def cacheset(
    key: Key,
    version: Key,
    value: Word,
    *,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    stale: Seconds | None = None,
    jitter: int | None = None,
    token: str | None = None,
    json: bool = False,
) -> Call[bool]:
    """Keep an answer under a version of the model (ML.CACHESET).

    It expires after `ttl` seconds or at the moment `expires_at`, else as the server is
    set; `stale` seconds past that it may be served while another is computed. `jitter`
    takes up to so many percent off. `token` is that of the lease that it was computed
    under. With `json` the server refuses a value that is none.

    False where the version is not in force, or the token is no longer the holder's. With
    a `token` it is repeated after a lost connection.
    """
    words: list[Word] = ["ML.CACHESET", key, version, word_of("value", value)]
    words += set_words(ttl, expires_at, stale, jitter, token)
    if json:
        words.append("JSON")
    return Call(words, written, (key,), again=token is not None)


def cacheget(key: Key, version: Key, *, stale: bool = False) -> Call[bytes | None]:
    """The answer kept under a version, or None (ML.CACHEGET).

    With `stale` also one that has expired, for as long as it may be served: what to fall
    back to where a fetch is refused. It may be repeated.
    """
    words: list[Word] = ["ML.CACHEGET", key, version]
    if stale:
        words.append("STALE")
    return Call(words, as_it_is, (key,), again=True)


def cachemget(keys: Iterable[Key], version: Key) -> Call[list[bytes | None]]:
    """The answer for each key, or None, in order (ML.CACHEMGET). It may be repeated."""
    names = listed("keys", keys)

    def part(places: Sequence[int]) -> Call[list[bytes | None]]:
        return cachemget(chosen(names, places), version)

    words = ["ML.CACHEMGET", len(names), *names, version]
    return Call(words, as_it_is, names, again=True, split=in_order(part))


def cachemset(
    values: Mapping[Key, Word],
    version: Key,
    *,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    stale: Seconds | None = None,
    jitter: int | None = None,
    token: str | None = None,
) -> Call[list[bool]]:
    """`cacheset` of several keys (ML.CACHEMSET); whether each was written, in order.

    `token` is the one of a cachemfetch. With it, it is repeated after a lost connection.
    """
    check_mapping("values", values)
    names = list(values)
    words: list[Word] = ["ML.CACHEMSET", len(names)]
    for key, value in values.items():
        words += [key, word_of(f"value of {key!r}", value)]
    words += [version, *set_words(ttl, expires_at, stale, jitter, token)]

    def part(places: Sequence[int]) -> Call[list[bool]]:
        return cachemset(
            {names[place]: values[names[place]] for place in places},
            version,
            ttl=ttl,
            expires_at=expires_at,
            stale=stale,
            jitter=jitter,
            token=token,
        )

    return Call(words, all_written, names, again=token is not None, split=in_order(part))


def cachedrop(key: Key, *, version: Key | None = None, stale: bool = False) -> Call[int]:
    """Drop the answers of a key, or that of one version, and end its leases (ML.CACHEDROP).

    With `stale` they expire now instead, and may be served stale as long as they say. The
    result is how many. It is not repeated after a lost connection: an answer may have
    come since.
    """
    words: list[Word] = ["ML.CACHEDROP", key]
    if version is not None:
        words += ["VERSION", version]
    if stale:
        words.append("STALE")
    return Call(words, as_it_is, (key,))


def cachefetch(
    key: Key,
    version: Key,
    lease: Seconds,
    *,
    wait: Seconds | None = None,
    early: float | None = None,
    token: str | None = None,
) -> Call[Fetch]:
    """Read an answer; of all that miss it, one is told to compute it (ML.CACHEFETCH).

    `lease` is how many seconds this caller has, should it be the one; `wait`, how many to
    wait for the answer of another rather than be told BUSY. With `early`, β, one caller
    computes anew before the expiry, at random; 1 is a good value. `token` is the caller's
    own, else a new one. It may be repeated after a lost connection.
    """
    words: list[Word] = ["ML.CACHEFETCH", key, version, *lease_words(lease, wait)]
    if early is not None:
        words += ["EARLY", decimals(early)]
    words += ["TOKEN", token or new_id()]
    waiting = 0 if wait is None else in_seconds(wait)
    return Call(words, fetch_of, (key,), again=True, wait=waiting)


def cachemfetch(
    keys: Iterable[Key], version: Key, lease: Seconds, *, token: str | None = None
) -> Call[list[Fetch]]:
    """`cachefetch` of several keys, which never waits (ML.CACHEMFETCH), in order.

    All that is leased is leased under one token. It may be repeated after a lost
    connection.
    """
    names = listed("keys", keys)
    under = token or new_id()
    words: list[Word] = ["ML.CACHEMFETCH", len(names), *names, version]
    words += [*lease_words(lease), "TOKEN", under]

    def part(places: Sequence[int]) -> Call[list[Fetch]]:
        return cachemfetch(chosen(names, places), version, lease, token=under)

    return Call(words, fetches_of, names, again=True, split=in_order(part))


def cacherenew(key: Key, token: str, lease: Seconds) -> Call[bool]:
    """Have the time of a lease start anew: it ends `lease` seconds from now (ML.CACHERENEW).

    False where the token is no longer the holder's: the work may be given up. It may be
    repeated.
    """
    return renewal("ML.CACHERENEW", key, token, lease)


def cacherelease(key: Key, token: str, *, backoff: Seconds | None = None) -> Call[bool]:
    """Give a lease up without an answer; the next caller has it (ML.CACHERELEASE).

    With `backoff`, seconds, nobody has one for that long. False where the token is not
    the holder's; repeated after a lost connection it is False as well.
    """
    return giving_up("ML.CACHERELEASE", key, token, backoff)


def cacheversion(namespace: Key) -> Call[list[bytes]]:
    """The versions in force in a namespace (ML.CACHEVERSION); of a cluster, any node's.

    Empty where none were set: then another namespace decides, or all are in force.
    """
    return Call(["ML.CACHEVERSION", namespace], as_it_is, again=True)


def cacheversionset(namespace: Key, versions: Iterable[Key] | None) -> Call[None]:
    """Put versions in force in a namespace, in place of those before (ML.CACHEVERSIONSET).

    All others are misses from then on, and cannot be set. None clears it: the namespace
    decides nothing. In a cluster each primary is told. It may be repeated.
    """
    words: list[Word] = ["ML.CACHEVERSIONSET", namespace]
    words += ["CLEAR"] if versions is None else listed("versions", versions)
    return Call(words, nothing, again=True, everywhere=True)


def cacheinfo(key: Key) -> Call[CacheInfo | None]:
    """What a key of the cache holds, or None (ML.CACHEINFO). It may be repeated."""

    def version_of(answer: Any) -> CachedVersion:
        found = named(answer)
        times = [found[name] / 1000 for name in ("ttl_ms", "stale_ms", "age_ms", "cost_ms")]
        return CachedVersion(found["version"], found["bytes"], *times)

    def read(answer: Any) -> CacheInfo | None:
        if answer is None:
            return None
        found = named(answer)
        versions = [version_of(version) for version in found["versions"]]
        return CacheInfo(found["lease_ms"] / 1000, found["waiters"], versions)

    return Call(["ML.CACHEINFO", key], read, (key,), again=True)
