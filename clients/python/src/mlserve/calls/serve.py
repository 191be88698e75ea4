"""A request in one call (ML.SERVE): calls of other commands, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mlserve.calls.call import Call, bulk
from mlserve.errors import response_error
from mlserve.results import Outcome

if TYPE_CHECKING:
    from mlserve.results import Admission, Fetch, Key

T = TypeVar("T")

ADMIT, CACHE, FEATURES, FREEHITS = map(bulk, ("ADMIT", "CACHE", "FEATURES", "FREEHITS"))


def serve(
    *,
    admit: Call[Admission] | None = None,
    fetch: Call[Fetch] | None = None,
    features: Call[T] | None = None,
    free_hits: bool = False,
) -> Call[Outcome[T]]:
    """Let a request in, and read its answer, or what to compute it from (ML.SERVE).

        client.serve(
            admit=calls.admit({"rpm:{u7}": Limit(60, 60)}),
            fetch=calls.cachefetch("pred:{u7}", "v1", lease=5),
            features=calls.featuretensor(["user:{u7}"], profile),
        )

    Two of the three at least, as `mlserve.calls` describes them, without a wait. The features
    are read where the answer is to be computed. With `free_hits` only what is to be computed
    has to be let in. In a cluster all keys share a slot.

    Where the features are answered with an error, what came before stands: `outcome.error` is
    that error, and `outcome.features` raises it. Whoever has a lease by then gives it back.

    It is repeated after a lost connection where `admit`, if there is one, has a `hold`.
    """
    keys: list[Key] = []
    tail: list[bytes] = []
    count = 0
    parts: list[tuple[str, str, bytes, Call[Any] | None]] = [
        ("admit", "ML.ADMIT", ADMIT, admit),
        ("fetch", "ML.CACHEFETCH", CACHE, fetch),
        ("features", "ML.FEATUREGET", FEATURES, features),
    ]
    given = [(name, command, word, call) for name, command, word, call in parts if call is not None]
    if len(given) < 2:
        raise ValueError("two of admit, fetch and features must be given")
    if free_hits and (admit is None or fetch is None):
        raise ValueError("free_hits needs admit and fetch")
    for name, command, word, call in given:
        if not isinstance(call, Call) or call.name != command or not call.keys:
            raise TypeError(f"{name} must be a call of {command}: {call!r}")
        if call.wait:
            raise ValueError(f"{name} must have no wait: {call.wait!r}")
        # The command; the keys, but for one with their number.
        own, packed = words_after(call, 1 + len(call.keys) + (call is not fetch))
        keys += call.keys
        tail += [word, packed]
        count += 1 + own
        if call is fetch and free_hits:
            tail.append(FREEHITS)
            count += 1

    def read_part(call: Call[Any] | None, part: Any) -> Any:
        return None if call is None or part is None else call.read(part)

    def read(answer: list[Any]) -> Outcome[T]:
        admission, fetched, found = answer
        error = response_error(found, "ML.SERVE") if isinstance(found, Exception) else None
        return Outcome(
            read_part(admit, admission),
            read_part(fetch, fetched),
            read_part(features, None if error else found),
            error,
        )

    head = b"*%d\r\n$8\r\nML.SERVE\r\n" % (2 + len(keys) + count)
    words = b"".join([head, bulk(len(keys)), *map(bulk, keys), *tail])
    again = all(call.again for *_, call in given)
    return Call(words, read, keys, again=again, fields=features.fields if features else None)


def words_after(call: Call[Any], before: int) -> tuple[int, bytes]:
    """How many words of a call come after so many, and these, packed."""
    words = call.words
    if not isinstance(words, bytes):
        rest = words[before:]
        return len(rest), b"".join([bulk(word, "an argument of ML.SERVE") for word in rest])
    at = words.index(b"\r\n") + 2
    count = int(words[1 : at - 2])
    for _ in range(before):
        start = words.index(b"\r\n", at) + 2
        at = start + int(words[at + 1 : start - 2]) + 2
    return count - before, words[at:]
