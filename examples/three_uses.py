"""What mlserve does for a server of models, on real input.

    python examples/three_uses.py [--host 127.0.0.1] [--port 6379]

Wants a Redis that has the module loaded, and the packages of requirements.txt.
It writes user:123, rate:user:123 and keys that start with pred:, and leaves
them to be looked at. The three functions at the top are made to be copied.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path

import redis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def cache_key(text):
    return "pred:" + hashlib.sha256(text.encode()).hexdigest()[:32]


def cached_score(client, model, version, text, ttl=3600):
    """The model's answer for a text, and whether the cache had it.

    Answers of other versions of the model are never returned.
    """
    key = cache_key(text)
    answer = client.execute_command("ML.CACHEGET", key, version)
    if answer is not None:
        return json.loads(answer), True
    score = model.predict_proba([text])[0].tolist()
    client.execute_command("ML.CACHESET", key, version, json.dumps(score), "EX", ttl)
    return score, False


def features(client, key, names):
    """The values of these features, in this order; None where there is none."""
    return client.execute_command("ML.FEATURES", key, *names)


def allow_request(client, user, limit=100, window=60):
    """Whether the user may make this request; else, in how many ms to retry."""
    granted, _limit, _remaining, retry_after, _reset_after = client.execute_command(
        "ML.RATELIMIT", f"rate:{user}", limit, window
    )
    return bool(granted), retry_after


# From here on: the demonstration.

TEXT = "The kettle is beautiful, but it leaks and the handle is uncomfortable."
USER = "user:123"


def check(claim, holds):
    if not holds:
        sys.exit(f"This is not so: {claim}.")


def train(vectorizer, rows):
    model = make_pipeline(vectorizer, LogisticRegression(max_iter=1000))
    return model.fit([text for _, text in rows], [label for label, _ in rows])


def train_two_versions():
    """Two models of whether a review is a good one, the second made otherwise."""
    lines = (Path(__file__).parent / "reviews.tsv").read_text(encoding="utf-8").splitlines()
    rows = [tuple(line.split("\t")) for line in lines]
    held_out = rows[4::5]
    training = [row for i, row in enumerate(rows) if i % 5 != 4]
    models = {
        "v1": train(TfidfVectorizer(ngram_range=(1, 2)), training),
        "v2": train(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)), training),
    }
    print(f"Text classifier, trained on {len(training)} product reviews")
    for version, model in models.items():
        right = sum(model.predict([text])[0] == label for label, text in held_out)
        print(f"  {version}: right on {right} of {len(held_out)} reviews it has not seen")
        check(f"{version} is better than a guess", right > 0.7 * len(held_out))
    return models


def median_ms(times, call):
    """The median time of a call, in ms."""

    def once():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1000

    return statistics.median(once() for _ in range(times))


def show_cache(client, models):
    print("\n1. Cached predictions")
    print(f'  "{TEXT}"')
    client.delete(cache_key(TEXT))

    def ask(version):
        start = time.perf_counter()
        score, hit = cached_score(client, models[version], version, TEXT)
        ms = (time.perf_counter() - start) * 1000
        print(f"  {version}  {'HIT ' if hit else 'MISS'}  P(good) = {score[1]:.4f}  {ms:6.2f} ms")
        return score, hit

    computed, hit = ask("v1")
    check("the first call is a miss", not hit)
    cached, hit = ask("v1")
    check("the second call is a hit", hit)
    check("the cache answers what the model said", cached == computed)

    model = median_ms(101, lambda: models["v1"].predict_proba([TEXT]))
    cache = median_ms(101, lambda: cached_score(client, models["v1"], "v1", TEXT))
    print(f"  medians of 101: the model {model:.3f} ms, a hit {cache:.3f} ms, {model / cache:.1f} to 1")

    newer, hit = ask("v2")
    check("a new version is a miss at once", not hit)
    check("the new version has an answer of its own", newer != computed)
    cached, hit = ask("v2")
    check("the new version's answer is then a hit", hit and cached == newer)
    cached, hit = ask("v1")
    check("the old version still has its own answer", hit and cached == computed)


def show_features(client):
    print("\n2. Features, from a plain hash")
    client.delete(USER)
    client.hset(USER, mapping={"avg_order": "84.50", "n_sessions": "12", "tier": "gold"})
    names = ["tier", "avg_order", "n_sessions", "country"]
    values = features(client, USER, names)
    for name, value in zip(names, values):
        print(f"  {name:10}  {value}")
    check(
        "the values come in the order asked for, None for the missing one",
        values == ["gold", "84.50", "12", None],
    )


def show_rate_limit(client):
    print("\n3. 101 requests against a limit of 100 in 60 s")
    client.delete(f"rate:{USER}")
    answers = [allow_request(client, USER) for _ in range(101)]
    passed = sum(allowed for allowed, _ in answers)
    allowed, retry_after = answers[100]
    print(f"  {passed} passed")
    check("the first 100 pass", all(allowed for allowed, _ in answers[:100]))
    check("the 101st is refused", not allowed)
    print(f"  the 101st was refused: retry after {retry_after} ms")
    check("the wait is within the window", 0 < retry_after <= 60_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    options = parser.parse_args()
    client = redis.Redis(host=options.host, port=options.port, decode_responses=True)
    try:
        client.execute_command("ML.CACHEGET", "pred:", "v1")
        models = train_two_versions()
        show_cache(client, models)
        show_features(client)
        show_rate_limit(client)
    except redis.RedisError as error:
        sys.exit(f"The server at {options.host}:{options.port}: {error}")

    cli = f"redis-cli -h {options.host} -p {options.port}"
    print("\nTry:")
    print(f"  {cli} ML.CACHEGET {cache_key(TEXT)} v2")
    print(f"  {cli} ML.FEATURES {USER} avg_order n_sessions tier")
    print(f"  {cli} ML.RATELIMIT rate:{USER} 100 60")


if __name__ == "__main__":
    main()
