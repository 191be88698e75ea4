"""What those ask who run the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mlserve.calls.call import (
    Call,
    Program,
    Word,
    as_it_is,
    chosen,
    listed,
    named,
    pairs_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlserve.results import Key

Section: TypeAlias = Literal["limits", "cache", "features", "semantic"]


def stats(
    section: Section | None = None, *, namespace: Key | None = None, reset: bool = False
) -> Call[dict[str, dict[bytes, dict[str, Any]]]]:
    """What a node has counted, by section and namespace (ML.STATS).

    Of all sections or of one, of all namespaces or of one; `reset` sets what was told to
    0. `most_denied` is a list of (key, count); `versions` is a map of namespaces, each a
    map of its versions. In a cluster it is a node's own: ask each of `client.nodes()`.
    """
    words: list[Word] = ["ML.STATS"]
    if section is not None:
        if section.upper() not in ("LIMITS", "CACHE", "FEATURES", "SEMANTIC"):
            raise ValueError(f"section must be limits, cache, features or semantic: {section!r}")
        words.append(section.upper())
    if namespace is not None:
        words += ["NAMESPACE", namespace]
    if reset:
        words.append("RESET")

    def counts_of(answer: Any) -> dict[str, Any]:
        counts = named(answer)
        if "most_denied" in counts:
            counts["most_denied"] = [(key, count) for key, count in counts["most_denied"]]
        if "versions" in counts:
            counts["versions"] = {
                space: {version: named(of) for version, of in pairs_of(versions).items()}
                for space, versions in pairs_of(counts["versions"]).items()
            }
        return counts

    def read(answer: Any) -> dict[str, dict[bytes, dict[str, Any]]]:
        return {
            name: {space: counts_of(counts) for space, counts in pairs_of(spaces).items()}
            for name, spaces in named(answer).items()
        }

    return Call(words, read, again=not reset)


def delete(*keys: Key) -> Call[int]:
    """Delete keys, whatever they hold (DEL): a limit is full again, its holds are over.

    Those who wait at a key are decided anew. The result is how many there were. It is not
    repeated after a lost connection: what another has written since would go too.
    """
    names = listed("keys", keys)

    def split(groups: Sequence[Sequence[int]]) -> Program[int]:
        return sum((yield [delete(*chosen(names, group)) for group in groups]))

    return Call(["DEL", *names], as_it_is, names, split=split)
