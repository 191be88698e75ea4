"""What mlserve does for a server of models, on real input, and beside it the same by hand.

    python examples/three_uses.py [--host 127.0.0.1] [--port 6379]

Wants a server that has the module loaded, and the packages of requirements.txt. It shows
by_mlserve.py, and compares it to by_hand.py. It writes user:123, rate:user:123 and keys
that start with pred:, and leaves them to be looked at.
"""

import argparse
import statistics
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import mlserve
import mlserve.keys
import redis

import by_hand
import by_mlserve
import reviews

TEXT = "The kettle is beautiful, but it leaks and the handle is uncomfortable."
KEY = "pred:" + mlserve.keys.digest([TEXT])  # As `cached` makes it.
USER = "user:123"
AT_ONCE = 20


class Counted:
    """A model that counts its predictions."""

    def __init__(self, model):
        self.model = model
        self.predictions = 0
        self.lock = threading.Lock()

    def predict_proba(self, texts):
        with self.lock:
            self.predictions += 1
        return self.model.predict_proba(texts)


def check(claim, holds):
    if not holds:
        sys.exit(f"This is not so: {claim}.")


def milliseconds(call):
    start = time.perf_counter()
    answer = call()
    return answer, (time.perf_counter() - start) * 1000


def median_ms(call, times=101):
    return statistics.median(milliseconds(call)[1] for _ in range(times))


def train_all():
    models, held_out = {}, reviews.held_out()
    print("Two ensembles of 200 trees and a regression, trained on product reviews")
    for version in reviews.VERSIONS:
        model = reviews.train(version)
        predicted = model.predict([text for _, text in held_out])
        right = sum(predicted == [label for label, _ in held_out])
        print(f"  {version}: right on {right} of {len(held_out)} reviews it has not seen")
        check(f"{version} is better than a guess", right > 0.7 * len(held_out))
        models[version] = Counted(model)
    return models


def show_cache(services, models):
    print("\n1. Cached predictions")
    print(f'  "{TEXT}"')

    def ask(version):
        before = models[version].predictions
        score, ms = milliseconds(lambda: services[version].score(TEXT))
        hit = models[version].predictions == before
        print(f"  {version}  {'HIT ' if hit else 'MISS'}  P(good) = {score:.4f}  {ms:6.2f} ms")
        return score, hit

    computed, hit = ask("v1")
    check("the first call is a miss", not hit)
    cached, hit = ask("v1")
    check("the second call is a hit", hit)
    check("the cache answers what the model said", cached == computed)

    model = median_ms(lambda: reviews.p_good(models["v1"], TEXT))
    cache = median_ms(lambda: services["v1"].score(TEXT))
    print(f"  medians of 101: the model {model:.2f} ms, a hit {cache:.3f} ms, {model / cache:.0f} to 1")

    newer, hit = ask("v2")
    check("a new version is a miss at once", not hit)
    check("the new version has an answer of its own", newer != computed)
    cached, hit = ask("v2")
    check("the new version's answer is then a hit", hit and cached == newer)
    cached, hit = ask("v1")
    check("the old version still has its own answer", hit and cached == computed)


def show_features(service):
    print("\n2. Features, from a plain hash")
    service.client.command("HSET", USER, "avg_order", "84.50", "n_sessions", 12, "tier", "gold")
    for name, value in zip(by_mlserve.FEATURES, service.features(USER)):
        print(f"  {name:10}  {value:g}")
    check("the values come as numbers, in order", service.features(USER) == [84.5, 12])


def show_limit(service):
    print("\n3. 101 requests against a limit of 100 in 60 s")
    waits = [service.wait(USER) for _ in range(101)]
    print(f"  {waits.count(0)} passed")
    check("the first 100 pass", not any(waits[:100]))
    print(f"  the 101st was refused: retry after {waits[100]:.3f} s")
    check("the wait is within the window", 0 < waits[100] <= 60)


def show_beside(hand, ours, model):
    print("\n4. The same by hand (by_hand.py), and by mlserve (by_mlserve.py): medians of 101")

    def row(what, *found):
        print(f"  {what:39}" + "".join(f"{one:>10}" for one in found))

    row("", "by hand", "mlserve")
    for what, call in [
        ("a request let in, ms", lambda service: service.wait("user:timed", limit=1000)),
        ("a user's features, ms", lambda service: service.features(USER)),
        ("a cached prediction, ms", lambda service: service.score(TEXT)),
    ]:
        found = []
        for service in (hand, ours):
            ours.client.delete("rate:user:timed")  # The other's is of another type.
            call(service)
            found.append(f"{median_ms(lambda: call(service)):.3f}")
        row(what, *found)

    found = []
    for service in (hand, ours):
        before, text = model.predictions, f"{TEXT} {uuid.uuid4()}"  # One that nobody has asked.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            scores = set(pool.map(service.score, [text] * AT_ONCE))
        check("all have the same answer", len(scores) == 1)
        found.append(model.predictions - before)
    row(f"predictions where {AT_ONCE} miss one at once", *found)
    check("of all that miss an answer, one computes it", found[1] == 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    options = parser.parse_args()
    url = f"redis://{options.host}:{options.port}"
    try:
        with mlserve.Client.from_url(url) as client:
            # What a former run has left.
            client.cachedrop(KEY)
            client.delete(USER, f"rate:{USER}")
        models = train_all()
        services = {name: by_mlserve.Service(url, models[name], name) for name in models}
        show_cache(services, models)
        show_features(services["v1"])
        show_limit(services["v1"])
        show_beside(by_hand.Service(url, models["v1"], "v1"), services["v1"], models["v1"])
    except (mlserve.Error, redis.RedisError) as error:
        sys.exit(f"The server at {options.host}:{options.port}: {error}")

    cli = f"redis-cli -h {options.host} -p {options.port}"
    print("\nTry:")
    print(f"  {cli} ML.CACHEGET {KEY} v2")
    print(f"  {cli} ML.STATS CACHE NAMESPACE pred")
    print(f"  {cli} ML.FEATURES {USER} avg_order n_sessions tier")
    print(f"  {cli} ML.RATELIMIT rate:{USER} 100 60")


if __name__ == "__main__":
    main()
