"""Ranking with tensors: the features of 200 candidates as one numpy array, for a model.

    pip install -r examples/requirements.txt  # at the top of the repository
    python examples/ranking.py

Wants a server that has the module loaded, at REDIS_URL (redis://127.0.0.1:6379). A batch of
a pipeline is one command, and so are all features of a ranking request.
"""

import os
import statistics
import time

import mlserve
import numpy
from sklearn.ensemble import ExtraTreesClassifier

# A view is what one pipeline writes. It has an event time and a time to live of its own,
# and its fields are read as `view:field`.
DAILY = [f"score_{number:02}" for number in range(49)]
FIELDS = [*(f"daily:{name}" for name in DAILY), "clicks:rate"]
ITEMS = [f"item:{number}" for number in range(200)]
HOUR = 3600


def train(random):
    """A model of whether an item is clicked. A rate that is missing it takes as NaN."""
    features = random.random((4000, len(FIELDS)), "f4")
    features[random.random(4000) < 0.25, -1] = numpy.nan
    appeal = features[:, :5].sum(axis=1) + 2 * numpy.nan_to_num(features[:, -1])
    clicked = appeal + random.normal(size=4000) > numpy.median(appeal)
    return ExtraTreesClassifier(100, min_samples_leaf=10, random_state=7).fit(features, clicked)


def write(client, random, now):
    """What a job writes each hour for all items, and a stream for those that are seen."""
    daily = random.random((len(ITEMS), len(DAILY)), "f4")
    client.featuremset(ITEMS, DAILY, daily, view="daily", at=now - HOUR, ttl=24 * HOUR)
    rates = random.random((150, 1), "f4")
    client.featuremset(ITEMS[:150], ["rate"], rates, view="clicks", at=now, ttl=HOUR / 6)
    late = client.featuremset(
        ITEMS, DAILY, numpy.zeros_like(daily), view="daily", at=now - 2 * HOUR, ttl=HOUR
    )
    print(f"a batch that comes late changed {sum(late)} of {len(late)} items")


def rank(features, model, items):
    """The items, the likeliest to be clicked first, each with its probability."""
    scores = model.predict_proba(features(items).numpy())[:, 1]
    return [(items[place], scores[place]) for place in numpy.argsort(-scores)]


def median_ms(call, times=31):
    def once():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1000

    return statistics.median(once() for _ in range(times))


def main():
    random = numpy.random.default_rng(7)
    model = train(random)
    client = mlserve.Client.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
    write(client, random, time.time())

    features = client.features(FIELDS, type="f4")  # What is the same each time is packed once.
    tensor = features(ITEMS)
    status = tensor.statuses()
    rows, columns = tensor.shape
    read_ms, rank_ms = median_ms(lambda: features(ITEMS)), median_ms(lambda: rank(features, model, ITEMS))
    print(f"{rows} × {columns} values of {tensor.numpy().dtype} in {read_ms:.2f} ms, "
          f"ranked in {rank_ms:.2f} ms")
    for kind in (mlserve.FieldStatus.PRESENT, mlserve.FieldStatus.NOT_FOUND):
        print(f"{kind.name.lower().replace('_', ' ')}: {(status == kind).sum()}")
    fresh = client.features(FIELDS, type="f4", max_age=HOUR / 2)
    old = fresh(ITEMS).statuses() == mlserve.FieldStatus.TOO_OLD
    print(f"older than half an hour: {old.sum()}")
    for item, score in rank(features, model, ITEMS)[:3]:
        print(f"{item:9} {score:.3f}")


if __name__ == "__main__":
    main()
