"""A request in one call (ML.SERVE): calls of other commands, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mlserve.calls.call import Call, Word
from mlserve.errors import response_error
from mlserve.results import Outcome

if TYPE_CHECKING:
    from mlserve.results import Admission, Fetch, Key

T = TypeVar("T")


def serve(
    *,
    admit: Call[Admission] | None = None,
    fetch: Call[Fetch] | None = None,
    features: Call[T] | None = None,
    free_hits: bool = False,
) -> Call[Outcome[T]]:
    """Let a request in, and read its answer, or what to compute it from (ML.SERVE).

        client.serve(
            admit=calls.admit({"{u7}:rpm": Limit(60, 60)}),
            fetch=calls.cachefetch("pred:{u7}", "v1", lease=5),
            features=calls.featuretensor(["user:{u7}"], profile),
        )

    Two of the three at least, as `mlserve.calls` describes them, without a wait. The features
    are read where the answer is to be computed. With `free_hits` only what is to be computed
    has to be let in. In a cluster all keys share a slot.

    Where a part is answered with an error, those before it stand: `outcome.error` is that
    error, and `outcome.fetch` or `.features` raises it where it is that part, or was not asked
    any more. Whoever has a lease by then gives it back.

    It is repeated after a lost connection where `admit`, if there is one, has a `hold`.
    """
    keys: list[Key] = []
    tail: list[Word] = []
    parts: list[tuple[str, str, str, Call[Any] | None]] = [
        ("admit", "ML.ADMIT", "ADMIT", admit),
        ("fetch", "ML.CACHEFETCH", "CACHE", fetch),
        ("features", "ML.FEATUREGET", "FEATURES", features),
    ]
    given = [(name, command, word, call) for name, command, word, call in parts if call is not None]
    if len(given) < 2:
        raise ValueError("two of admit, fetch and features must be given")
    for name, command, word, call in given:
        if not isinstance(call, Call) or call.name != command:
            raise TypeError(f"{name} must be a call of {command}: {call!r}")
        if call.wait:
            raise ValueError(f"{name} must have no wait: {call.wait!r}")
        # The command; the keys, but for one with their number.
        before = 1 + len(call.keys) + (command != "ML.CACHEFETCH")
        keys += call.keys
        tail += [word, *words_of(call)[before:]]
        if command == "ML.CACHEFETCH" and free_hits:
            tail.append("FREEHITS")

    def read(answer: list[Any]) -> Outcome[T]:
        # The first part makes none; what comes after an error is not asked, and has no other
        # answer than that.
        errors = [part for part in answer if isinstance(part, Exception)]
        error = response_error(errors[0], "ML.SERVE") if errors else None

        def read_part(call: Call[Any] | None, part: Any) -> Any:
            if call is None:
                return None
            return error if part is None or isinstance(part, Exception) else call.read(part)

        admission, fetched, found = answer
        return Outcome(
            None if admit is None or admission is None else admit.read(admission),
            read_part(fetch, fetched),
            read_part(features, found),
            error,
        )

    words: list[Word] = ["ML.SERVE", len(keys), *keys, *tail]
    again = all(call.again for *_, call in given)
    return Call(words, read, keys, again=again, fields=features.fields if features else None)


def words_of(call: Call[Any]) -> list[Word]:
    """The words of a call, also of one that is packed."""
    if not isinstance(call.words, bytes):
        return list(call.words)
    words: list[Word] = []
    at, end = call.words.index(b"\r\n") + 2, len(call.words)
    while at < end:
        start = call.words.index(b"\r\n", at) + 2
        length = int(call.words[at + 1 : start - 2])
        words.append(call.words[start : start + length])
        at = start + length + 2
    return words
