"""What can be asked of the semantic cache."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from mlserve.calls.call import (
    Call,
    Moment,
    Seconds,
    Word,
    as_it_is,
    decimals,
    flag_of,
    in_seconds,
    named,
    new_id,
    text_of,
    word_of,
)
from mlserve.calls.leases import giving_up, lease_words, renewal, set_words
from mlserve.results import Key, NearAnswer, NearAnswers, NearFetch, SemanticInfo

if TYPE_CHECKING:
    from collections.abc import Iterable


def vector_of(vector: Any) -> bytes:
    """An embedding as the server reads it: little-endian 32-bit floats.

    It is bytes already, or numbers: of a list or of an array, of one dimension.
    """
    if isinstance(vector, bytes):
        return vector
    if hasattr(vector, "astype") and getattr(vector, "ndim", None) == 1:
        return bytes(vector.astype("<f4").tobytes())
    try:
        numbers = list(vector)
        return struct.pack(f"<{len(numbers)}f", *numbers)
    except (TypeError, struct.error):
        shape = getattr(vector, "shape", type(vector).__qualname__)
        raise TypeError(f"vector must be numbers, one after the other, not {shape}") from None


def cosine(name: str, value: Any) -> float:
    """A similarity, of whatever kind of number."""
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a number, a cosine: {value!r}")
    return float(number)


def semset(
    key: Key,
    version: Key,
    vector: bytes | Iterable[float],
    value: Word,
    *,
    embedder: Key | None = None,
    prompt: Key | None = None,
    digest: Key | None = None,
    ttl: Seconds | None = None,
    expires_at: Moment | None = None,
    stale: Seconds | None = None,
    jitter: int | None = None,
    token: str | None = None,
) -> Call[str | None]:
    """Keep the answer to a question, to be found by questions near it (ML.SEMSET).

    `vector` is the embedding of the question. `embedder` names what made it: another name
    on the same key is an error. `prompt` is told with the answer. An answer of the same
    version and `digest` is replaced. The times are those of cacheset. `token` is of the
    lease that it was computed under: those who wait for what is near have the answer.

    The result is the entry's id, None where the version is not in force, or the token no
    longer the holder's. With a `digest` or a `token` it is repeated after a lost connection.
    """
    words: list[Word] = ["ML.SEMSET", key, version, vector_of(vector), word_of("value", value)]
    for name, text in (("EMBEDDER", embedder), ("PROMPT", prompt), ("DIGEST", digest)):
        if text is not None:
            words += [name, text]
    words += set_words(ttl, expires_at, stale, jitter, token)

    def read(answer: Any) -> str | None:
        return None if answer is None else text_of(answer)

    return Call(words, read, (key,), again=digest is not None or token is not None)


def near_words(
    maybe: float | None, top: int | None, embedder: Key | None, digest: Key | None
) -> list[Word]:
    """What semget and semfetch have in common."""
    words: list[Word] = []
    if maybe is not None:
        words += ["MAYBE", decimals(cosine("maybe", maybe))]
    if top is not None:
        words += ["TOP", top]
    for name, text in (("EMBEDDER", embedder), ("DIGEST", digest)):
        if text is not None:
            words += [name, text]
    return words


def entries_of(answer: Any) -> list[NearAnswer]:
    """The entries that were found."""
    return [
        NearAnswer(text_of(name), float(similarity), value, prompt, age / 1000)
        for name, similarity, value, prompt, age in answer
    ]


def semget(
    key: Key,
    version: Key,
    vector: bytes | Iterable[float],
    hit: float,
    *,
    maybe: float | None = None,
    top: int | None = None,
    embedder: Key | None = None,
    digest: Key | None = None,
) -> Call[NearAnswers]:
    """The answers to the questions nearest to one (ML.SEMGET).

    HIT where one is as similar as `hit`, a cosine; MAYBE where one is as similar as
    `maybe`: those are to be judged. At most `top` of them, else one. With the `digest` of
    an entry that is the hit. It may be repeated.
    """
    least = decimals(cosine("hit", hit))
    words: list[Word] = ["ML.SEMGET", key, version, vector_of(vector), "HIT", least]
    words += near_words(maybe, top, embedder, digest)

    def read(answer: Any) -> NearAnswers:
        status, entries = answer
        return NearAnswers(text_of(status), entries_of(entries))

    return Call(words, read, (key,), again=True)


def semfetch(
    key: Key,
    version: Key,
    vector: bytes | Iterable[float],
    hit: float,
    lease: Seconds,
    *,
    wait: Seconds | None = None,
    maybe: float | None = None,
    top: int | None = None,
    embedder: Key | None = None,
    digest: Key | None = None,
    token: str | None = None,
) -> Call[NearFetch]:
    """`semget`; of all that miss what is near, one is told to compute it (ML.SEMFETCH).

    `lease` is how many seconds this caller has, should it be the one; `wait`, how many to
    wait for the answer of another rather than be told BUSY. Who holds the lease calls
    semset with its token, or semrelease; with MAYBE it may judge that an entry answers the
    question, and call semalias. `token` is the caller's own, else a new one. It may be
    repeated after a lost connection.
    """
    least = decimals(cosine("hit", hit))
    words: list[Word] = ["ML.SEMFETCH", key, version, vector_of(vector), "HIT", least]
    words += lease_words(lease, wait)
    words += near_words(maybe, top, embedder, digest)
    words += ["TOKEN", token or new_id()]

    def read(answer: Any) -> NearFetch:
        status, entries, under, lasts = answer
        under = None if under is None else text_of(under)
        return NearFetch(text_of(status), entries_of(entries), under, lasts / 1000)

    waiting = 0 if wait is None else in_seconds(wait)
    return Call(words, read, (key,), again=True, wait=waiting)


def semalias(
    key: Key,
    version: Key,
    vector: bytes | Iterable[float],
    id: str,  # noqa: A002
    token: str,
) -> Call[bool]:
    """Have a question have the answer of an entry, which was judged to fit (ML.SEMALIAS).

    `token` is of the lease that came with it: those who wait for what is near have that
    answer too. False where the token is no longer the holder's, or the entry gone. It may
    be repeated.
    """
    words: list[Word] = ["ML.SEMALIAS", key, version, vector_of(vector), id, "TOKEN", token]
    return Call(words, flag_of, (key,), again=True)


def semrenew(key: Key, token: str, lease: Seconds) -> Call[bool]:
    """Have the time of a lease start anew: it ends `lease` seconds from now (ML.SEMRENEW).

    False where the token is no longer the holder's: the work may be given up. It may be
    repeated.
    """
    return renewal("ML.SEMRENEW", key, token, lease)


def semrelease(key: Key, token: str, *, backoff: Seconds | None = None) -> Call[bool]:
    """Give a lease up without an answer; who waits for what is near is next (ML.SEMRELEASE).

    With `backoff`, seconds, nobody near has one for that long. False where the token is not
    the holder's; repeated after a lost connection it is False as well.
    """
    return giving_up("ML.SEMRELEASE", key, token, backoff)


def semdrop(
    key: Key,
    *,
    id: str | None = None,  # noqa: A002
    version: Key | None = None,
) -> Call[int]:
    """Drop an entry, or all of a version (ML.SEMDROP).

    The result is how many could be served. It may be repeated.
    """
    if (id is None) == (version is None):
        raise ValueError("either id or version must be given")
    words: list[Word] = ["ML.SEMDROP", key]
    words += ["ID", id] if id is not None else ["VERSION", version or ""]
    return Call(words, as_it_is, (key,), again=True)


def semthreshold(key: Key, id: str, similarity: float) -> Call[bool]:  # noqa: A002
    """Have an entry answer from a similarity on only (ML.SEMTHRESHOLD).

    False where there is no such entry. It may be repeated.
    """
    words = ["ML.SEMTHRESHOLD", key, id, decimals(cosine("similarity", similarity))]
    return Call(words, flag_of, (key,), again=True)


def seminfo(key: Key) -> Call[SemanticInfo | None]:
    """What a key of the semantic cache holds, or None (ML.SEMINFO). It may be repeated."""

    def read(answer: Any) -> SemanticInfo | None:
        if answer is None:
            return None
        found = named(answer)
        found["saved"] = found.pop("saved_ms") / 1000
        return SemanticInfo(**found)

    return Call(["ML.SEMINFO", key], read, (key,), again=True)
