"""Thresholds of a semantic cache, from pairs of questions that are labelled.

A pair is a question that was answered, one that is asked, and whether the answer fits both.
From how similar they are follows what a threshold would answer wrongly and rightly.
`mlserve calibrate` is the command of it.
"""

from __future__ import annotations

import asyncio
import csv
import functools
import inspect
import json
import math
import operator
import random
import struct
import sys
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from mlserve._named import function_of
from mlserve.calls.semantic import vector_of
from mlserve.semantic import Answer, Judge

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Measured", "Pair", "Rate", "hit_for", "maybe_for", "measure", "read_pairs"]

DEVIATION = 0.001
"""How far off the server's similarities may be."""
LABELS = {
    "1": True, "1.0": True, "true": True, "yes": True,
    "0": False, "0.0": False, "false": False, "no": False,
}  # fmt: skip
"""What `same` may be, in any case; 1.0 and 0.0 are what pandas makes of a column with gaps."""
STEPS = [0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99]
"""Thresholds of the table that is told."""


class Pair(NamedTuple):
    """A question that was answered, and one that is asked."""

    similarity: float
    same: bool
    """Whether the answer to the one is an answer to the other."""
    accepted: bool = False
    """Whether a judge says so."""


class Rate(NamedTuple):
    """How many of how many."""

    number: int
    of: int

    @property
    def share(self) -> float:
        """From 0 to 1; NaN of none."""
        return self.number / self.of if self.of else math.nan

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Where the true share is, as far as so many tell (Wilson 1927)."""
        if not self.of:
            return 0.0, 1.0
        z = normal(confidence)
        share, weight = self.share, z * z / self.of
        middle = (share + weight / 2) / (1 + weight)
        half = z / (1 + weight) * math.sqrt(share * (1 - share) / self.of + weight / 4 / self.of)
        # Of none it is 0, and of all it is 1, but for rounding.
        low = 0.0 if self.number == 0 else max(middle - half, 0.0)
        high = 1.0 if self.number == self.of else min(middle + half, 1.0)
        return low, high


class Measured(NamedTuple):
    """What thresholds answer of some pairs."""

    wrong: Rate
    """Of those whose answers differ, those that are answered all the same."""
    right: Rate
    """Of those with the same answer, those that are answered."""
    judged: Rate
    """Of all, those that a judge is asked about."""


def normal(confidence: float) -> float:
    """How many standard deviations around the mean hold so much of the normal distribution."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def hit_for(
    pairs: Sequence[Pair], wrong: float, *, sure: bool = False, confidence: float = 0.95
) -> float | None:
    """The lowest HIT that answers at most the share `wrong` of the pairs that differ wrongly.

    With `sure` also the upper end of the interval of that share is within it. None where
    no threshold does. It is rounded up, to 3 decimals, and as far above as the server's
    similarities may be off.
    """
    apart = sorted((pair.similarity for pair in pairs if not pair.same), reverse=True)

    def is_fine(count: int) -> bool:
        rate = Rate(count, len(apart))
        return (rate.interval(confidence)[1] if sure else rate.share) <= wrong

    if not apart or not is_fine(0):
        return None
    most = 0
    while most < len(apart) and is_fine(most + 1):
        most += 1
    if most == len(apart):
        return 0.0
    threshold = (math.floor(round((apart[most] + DEVIATION) * 1000, 6)) + 1) / 1000
    return max(threshold, 0.0) if threshold <= 1 else None


def maybe_for(pairs: Sequence[Pair], recall: float) -> float:
    """The highest MAYBE that finds the share `recall` of the pairs with the same answer."""
    alike = sorted((pair.similarity for pair in pairs if pair.same), reverse=True)
    if not alike:
        raise ValueError("no pair has the same answer: there is nothing to be found")
    wanted = max(math.ceil(round(recall * len(alike), 6)), 1)
    return max(math.floor(round((alike[wanted - 1] - DEVIATION) * 1000, 6)) / 1000, 0.0)


def measure(pairs: Iterable[Pair], hit: float, maybe: float | None = None) -> Measured:
    """What is answered from `hit` on, and from `maybe` on where a judge has accepted it."""
    counts = {True: [0, 0], False: [0, 0]}
    judged = 0
    for pair in pairs:
        asked = maybe is not None and maybe <= pair.similarity < hit
        counts[pair.same][0] += pair.similarity >= hit or (asked and pair.accepted)
        counts[pair.same][1] += 1
        judged += asked
    wrong, right = Rate(*counts[False]), Rate(*counts[True])
    return Measured(wrong, right, Rate(judged, wrong.of + right.of))


def crossed(
    pairs: Sequence[Pair], choose: Callable[[Sequence[Pair]], tuple[float | None, float | None]]
) -> Measured | None:
    """Thresholds chosen on one half of the pairs and measured on the other, both ways."""
    mixed = list(pairs)
    random.Random(1).shuffle(mixed)  # noqa: S311
    # As many of either kind in both.
    mixed.sort(key=lambda pair: pair.same)
    halves = mixed[::2], mixed[1::2]
    found = []
    for one, other in (halves, halves[::-1]):
        hit, maybe = choose(one)
        if hit is None:
            return None
        found.append(measure(other, hit, maybe))
    sums = (Rate(*map(sum, zip(*rates, strict=True))) for rates in zip(*found, strict=True))
    return Measured(*sums)


# --- what is read -------------------------------------------------------------


def read_pairs(
    lines: Iterable[str],
    embed: Callable[[str], Any] | None = None,
    judge: Judge | None = None,
) -> list[Pair]:
    """The pairs of a CSV file: columns `a`, `b` and `same`, or `similarity` in place of texts.

    `a` is the question that was answered, `b` the one that is asked; `same` is 1, true or yes
    where the answer fits both, else 0, false or no. `embed` and `judge` are those of a
    SemanticCache, plain or async.
    """
    reader = csv.DictReader(lines)
    columns = reader.fieldnames or []
    given = "similarity" in columns
    if not columns:
        raise ValueError("the file is empty: it has no header")
    if embed is None and not given:
        raise ValueError("give --embed, or a column similarity")
    for name in ["same", "a", "b"] if embed or judge else ["same"]:
        if name not in columns:
            why = "" if name == "same" else " of texts, as --embed and --judge want"
            raise ValueError(f"the file has no column {name!r}{why}: it has {', '.join(columns)}")
    rows = list(reader)
    similarities = (
        [number(row, place) for place, row in enumerate(rows, 2)]
        if embed is None
        else similarities_of(rows, embed)
    )
    labels = [label(row, place) for place, row in enumerate(rows, 2)]
    accepted = (
        [False] * len(rows)
        if judge is None
        else results(
            functools.partial(judge, row["b"], Answer("", similarity, None, row["a"], 0.0))
            for row, similarity in zip(rows, similarities, strict=True)
        )
    )
    for place, verdict in enumerate(accepted, 2):
        if verdict not in (True, False):
            raise ValueError(f"line {place}: the judge says neither True nor False")
    pairs = [Pair(*one) for one in zip(similarities, labels, map(bool, accepted), strict=True)]
    if not any(pair.same for pair in pairs) or all(pair.same for pair in pairs):
        raise ValueError("same must be 1 for some of the pairs, and 0 for others")
    if max(similarities) - min(similarities) < DEVIATION:
        raise ValueError(
            f"all pairs are as similar, {similarities[0]:.3f}: does the embedder look at the text?"
        )
    return pairs


def label(row: dict[str, str], place: int) -> bool:
    """Whether a line says that the answer is the same."""
    text = (row["same"] or "").strip().lower()
    if text not in LABELS:
        raise ValueError(
            f"line {place}: same must be 1, true or yes, or 0, false or no: {row['same']!r}"
        )
    return LABELS[text]


def number(row: dict[str, str], place: int) -> float:
    """The similarity that a line says."""
    try:
        similarity = float(row["similarity"])
    except (TypeError, ValueError):
        similarity = math.nan
    if not -1.001 <= similarity <= 1.001:
        raise ValueError(
            f"line {place}: similarity must be a cosine, from -1 to 1: {row['similarity']!r}"
        )
    return similarity


def similarities_of(rows: Sequence[dict[str, str]], embed: Callable[[str], Any]) -> list[float]:
    """How similar the texts of each line are."""
    texts = list(dict.fromkeys(row[name] for row in rows for name in ("a", "b")))
    for place, row in enumerate(rows, 2):
        if not all((row[name] or "").strip() for name in ("a", "b")):
            raise ValueError(f"line {place}: a and b must not be empty")
    embedded = results(functools.partial(embed, text) for text in texts)
    units = {
        text: unit(text, vector_of(vector)) for text, vector in zip(texts, embedded, strict=True)
    }
    return [sum(map(operator.mul, units[row["a"]], units[row["b"]])) for row in rows]


def unit(text: str, vector: bytes) -> list[float]:
    """The numbers of a vector, brought to length 1."""
    numbers = struct.unpack(f"<{len(vector) // 4}f", vector)
    length = math.hypot(*numbers)
    if not 0 < length < math.inf:
        raise ValueError(f"the embedding is zero or not finite: {text!r}")
    return [number / length for number in numbers]


def results(work: Iterable[Callable[[], Any]]) -> list[Any]:
    """What functions return, or, where they are async, what that is once it is awaited."""

    async def all_of_it() -> list[Any]:
        found = []
        for do in work:
            result = do()
            found.append(await result if inspect.isawaitable(result) else result)
        return found

    return asyncio.run(all_of_it())


# --- what is told -------------------------------------------------------------


def run(options: argparse.Namespace, to: TextIO | None = None) -> int:
    """Run the command; its exit status."""
    to = to or sys.stdout
    try:
        embed = function_of(options.embed) if options.embed else None
        judge = function_of(options.judge) if options.judge else None
        if options.pairs == "-":
            pairs = read_pairs(sys.stdin, embed, judge)
        else:
            with Path(options.pairs).open(newline="", encoding="utf-8-sig") as file:
                pairs = read_pairs(file, embed, judge)
    except (ValueError, OSError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = reported(pairs, options)
    print(json.dumps(report) if options.json else "\n".join(told(report, options)), file=to)
    return 0


def reported(pairs: Sequence[Pair], options: argparse.Namespace) -> dict[str, Any]:
    """All that is told, as plain values."""

    def rates(measured: Measured | None) -> dict[str, Any] | None:
        if measured is None:
            return None
        return {
            name: {
                "number": rate.number,
                "of": rate.of,
                "interval": [round(end, 6) for end in rate.interval(options.confidence)],
            }
            for name, rate in measured._asdict().items()
        }

    def alone(wrong: float, some: Sequence[Pair]) -> tuple[float | None, float | None]:
        return hit_for(some, wrong, sure=options.sure, confidence=options.confidence), None

    def with_a_judge(wrong: float, some: Sequence[Pair]) -> tuple[float | None, float | None]:
        return alone(wrong, some)[0], maybe_for(some, options.recall)

    chosen = []
    for wrong in options.wrong:
        hit, maybe = with_a_judge(wrong, pairs)
        if hit is not None and maybe is not None and maybe >= hit:
            maybe = None
        one: dict[str, Any] = {"wanted": wrong, "hit": hit, "maybe": maybe}
        if hit is not None:
            one["alone"] = rates(measure(pairs, hit))
            one["alone_other_half"] = rates(crossed(pairs, functools.partial(alone, wrong)))
            one["judged"] = rates(measure(pairs, hit, maybe))
            if options.judge:
                halves = crossed(pairs, functools.partial(with_a_judge, wrong))
                one["judged_other_half"] = rates(halves)
        chosen.append(one)
    return {
        "pairs": len(pairs),
        "same": sum(pair.same for pair in pairs),
        "recall": options.recall,
        "maybe": maybe_for(pairs, options.recall),
        "chosen": chosen,
        "table": [{"hit": step, **(rates(measure(pairs, step)) or {})} for step in STEPS],
    }


def told(report: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """The report in lines."""
    apart = report["pairs"] - report["same"]
    percent = f"{options.confidence:.0%}"
    lines = [
        f"{report['pairs']} pairs, {report['same']} with the same answer. In brackets: where the "
        f"true share is, by {percent}.",
        "",
        f"{'from':>6}  {'wrongly answered':<26}{'rightly answered'}",
    ]
    lines += [
        f"{row['hit']:>6}  {shown(row['wrong']):<26}{shown(row['right'])}"
        for row in report["table"]
    ]
    z = normal(options.confidence)
    found = f"finds {report['recall']:.4g} of those with the same answer"
    for one in report["chosen"]:
        wanted = f"{one['wanted']:.10g}"
        lines += [
            "",
            f"for {one['wanted']:.4g} of those that differ to be answered wrongly, at most:",
        ]
        if one["hit"] is None:
            lines.append("  no HIT: as similar as can be are pairs that differ, or too few of them")
        else:
            lines.append(f"  HIT {one['hit']}")
            lines.append(f"    {'as chosen':<34}{summary(one['alone'])}")
            lines.append(f"    {HALVES:<34}{summary(one['alone_other_half'])}")
            if one["maybe"] is None:
                lines.append(f"  HIT {one['hit']} alone {found}: no MAYBE is needed")
            else:
                lines.append(f"  HIT {one['hit']} MAYBE {one['maybe']}")
                lines.append(f"    judged: {shown(one['judged']['judged'])} of all pairs")
                if options.judge:
                    lines.append(f"    {'as chosen':<34}{summary(one['judged'])}")
                    lines.append(f"    {HALVES:<34}{summary(one['judged_other_half'])}")
        needed = math.ceil(z * z * (1 - one["wanted"]) / one["wanted"])
        if apart < needed:
            lines.append(
                f"  {apart} pairs that differ cannot show {wanted}: {needed} are needed, none wrong"
            )
    if any(one["hit"] is None or one["maybe"] is not None for one in report["chosen"]):
        lines += ["", f"MAYBE {report['maybe']} {found}"]
    return lines


HALVES = "chosen on one half, on the other"


def summary(rates: dict[str, Any] | None) -> str:
    """What is answered wrongly and rightly."""
    if rates is None:
        return "a half of the pairs is too few"
    return f"wrongly {shown(rates['wrong'])}, rightly {shown(rates['right'])}"


def shown(rate: dict[str, Any]) -> str:
    """A share in percent, and its interval."""
    low, high = rate["interval"]
    return f"{rate['number'] / rate['of']:.1%} ({low:.1%} to {high:.1%})"
