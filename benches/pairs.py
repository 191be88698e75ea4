"""What a semantic cache answers wrongly: fow-cache's pairs, embedded by all-MiniLM-L6-v2.

    target/venv/bin/python -m benches.pairs [--few N]     (at the top, after scripts/test)

Each pair is a question that was answered, one that is asked, and whether one answer fits both;
half of them are traps. The first is put into a SemanticCache and the second asked of it, on a
private server. Prints tables: of the pairs that differ those that are answered (wrongly), and
of those with the same answer (rightly), by HIT alone, and with what is between MAYBE and HIT
judged by a judge that is never wrong. Thresholds "for" a share are chosen on one half of the
pairs and measured on the other, both ways. In brackets: 95 % intervals.
"""

import argparse
import sys
from functools import partial

import mlserve
from fow_cache.data import load_conversations, load_questions
from mlserve.calibration import Pair, crossed, hit_for, maybe_for, measure
from mlserve.server import Server

from .server import MODULE, ROOT

sys.path.insert(0, str(ROOT / "examples"))

from support_desk import embed, facts  # noqa: E402

RECALL = 0.95
SHARES = (0.01, 0.05)
HITS = (0.9, 0.95)


def said(chat):
    return "\n".join(f"{message['role']}: {message['content']}" for message in chat)


def last(chat):
    return chat[-1]["content"]


def nothing(_):
    return ()


WAYS = [
    ("questions", load_questions, "the question", str, nothing),
    ("questions", load_questions, "the question, its numbers and negations in the scope", str, facts),
    ("chats", load_conversations, "the last message", last, nothing),
    ("chats", load_conversations, "the whole chat as one text", said, nothing),
    ("chats", load_conversations, "the last message, what was said before in the scope", last,
     lambda chat: said(chat[:-1])),
]  # fmt: skip


def measured(client, embedded, items, text, scope):
    """How similar the server says that each pair is; a judge by its label accepts it."""
    how = {"embedder": "all-MiniLM-L6-v2-int8", "version": "1", "ttl": 3600}
    cache = mlserve.SemanticCache(client, embedded, name="pairs", hit=1, maybe=0, **how)
    pairs = []
    for item in items:
        # What depends on the application counts as another answer, as fow-cache has it.
        same = bool(item["same_answer"]) and not item.get("ambiguous")
        cache.set(text(item["a"]), "", (item["id"], scope(item["a"])))
        found = cache.get(text(item["b"]), (item["id"], scope(item["b"])))
        similarity = found.answers[0].similarity if found.answers else -1.0
        pairs.append(Pair(similarity, same, same))
    client.command("FLUSHALL")
    return pairs


def chosen(share, judged, some):
    return hit_for(some, share), maybe_for(some, RECALL) if judged else None


def rows(pairs):
    """Of each way to choose thresholds: how they are called, and what they do."""
    for hit in HITS:
        yield f"HIT {hit}", measure(pairs, hit)
    for share in SHARES:
        for judged in (False, True):
            hit, maybe = chosen(share, judged, pairs)
            name = f"HIT for {share:.0%}" + (f" ({hit})" if hit is not None else "")
            name += f", MAYBE {maybe} judged" if judged else ""
            yield name, crossed(pairs, partial(chosen, share, judged))


def shown(rate):
    low, high = rate.interval()
    return f"{rate.share:.1%} ({low:.1%} to {high:.1%})"


def main():
    parser = argparse.ArgumentParser(prog="benches.pairs", description=__doc__.split("\n")[0])
    parser.add_argument("--few", type=int, help="so many pairs of either kind, which say nothing")
    few = parser.parse_args().few
    vectors = {}

    def embedded(text):
        if text not in vectors:
            vectors[text] = embed(text)
        return vectors[text]

    with Server(module=str(MODULE)) as server, mlserve.Client.from_url(server.url) as client:
        for kind, load, name, text, scope in WAYS:
            items = load()
            # Of a few, too, some with the same answer.
            items = items[:: len(items) // few] if few else items
            pairs = measured(client, embedded, items, text, scope)
            print(f"\n{len(pairs)} {kind}: {name}\n")
            print("| | wrongly | rightly | judged |\n|---|---|---|---|")
            for way, found in rows(pairs):
                if found is None:
                    print(f"| {way} | there is none | | |")
                else:
                    print(f"| {way} | {shown(found.wrong)} | {shown(found.right)} | {found.judged.share:.0%} |")


if __name__ == "__main__":
    main()
