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
    expiry_words,
    flag_of,
    milliseconds,
    named,
    text_of,
    word_of,
)
from mlserve.results import Key, NearAnswer, NearAnswers, SemanticInfo

if TYPE_CHECKING:
    from collections.abc import Iterable


def vector_of(vector: bytes | Iterable[float]) -> bytes:
    """An embedding as the server reads it: little-endian 32-bit floats."""
    if isinstance(vector, bytes):
        return vector
    numbers = list(vector)
    return struct.pack(f"<{len(numbers)}f", *numbers)


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
) -> Call[str | None]:
    """Keep the answer to a question, to be found by questions near it (ML.SEMSET).

    `vector` is the embedding of the question. `embedder` names what made it: another name
    on the same key is an error. `prompt` is told with the answer. An answer of the same
    version and `digest` is replaced. The times are those of cacheset.

    The result is the entry's id, None where the version is not in force. With a `digest` it
    is repeated after a lost connection.
    """
    words: list[Word] = ["ML.SEMSET", key, version, vector_of(vector), word_of("value", value)]
    for name, text in (("EMBEDDER", embedder), ("PROMPT", prompt), ("DIGEST", digest)):
        if text is not None:
            words += [name, text]
    words += expiry_words(ttl, expires_at)
    if stale is not None:
        words += ["STALE", milliseconds("stale", stale)]
    if jitter is not None:
        words += ["JITTER", jitter]

    def read(answer: Any) -> str | None:
        return None if answer is None else text_of(answer)

    return Call(words, read, (key,), again=digest is not None)


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
    words: list[Word] = ["ML.SEMGET", key, version, vector_of(vector), "HIT", decimals(hit)]
    if maybe is not None:
        words += ["MAYBE", decimals(maybe)]
    if top is not None:
        words += ["TOP", top]
    for name, text in (("EMBEDDER", embedder), ("DIGEST", digest)):
        if text is not None:
            words += [name, text]

    def read(answer: Any) -> NearAnswers:
        status, entries = answer
        found = [
            NearAnswer(text_of(name), float(similarity), value, prompt, age / 1000)
            for name, similarity, value, prompt, age in entries
        ]
        return NearAnswers(text_of(status), found)

    return Call(words, read, (key,), again=True)


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
    words = ["ML.SEMTHRESHOLD", key, id, decimals(similarity)]
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
