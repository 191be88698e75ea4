"""A recommender's session: what a user did of late, beside what is known of the user, as one
row of numbers for a model.

    pip install -r examples/requirements.txt  # at the top of the repository
    python examples/session.py

Wants a server that has the module loaded, at REDIS_URL (redis://127.0.0.1:6379). Each click is
told by one pipeline, and each request is served by one command.
"""

import os
import time

import mlserve
import numpy

MINUTE, HOUR, DAY, MONTH = 60, 3600, 86_400, 2_592_000
WINDOWS = [(HOUR, MINUTE), (MONTH, DAY)]
"""An hour by minutes, a month by days."""

FIELDS = [
    "embedding[8]",
    "viewed[20]",
    "count(spend,3600)", "count(spend,2592000)",
    "sum(spend,3600)", "mean(spend,2592000)",
    "age",
]


def tell(client, user, offset, item, spent, at):
    """One event of a log. Its offset makes it harmless to tell it again."""
    pipeline = client.pipeline()
    pipeline.featurepush(user, "viewed", [item], 20, at=at, seq=offset)
    pipeline.featuretally(user, {"spend": spent}, WINDOWS, at=at, seq=offset)
    return any(pipeline.execute())


def main():
    client = mlserve.Client.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
    client.featuredel("user:7", fields=["viewed", "spend"])
    random = numpy.random.default_rng(7)
    now = time.time()

    # A nightly job knows the user; a stream tells what the user does.
    client.featureset("user:7", {"embedding": random.random(8, "f4"), "age": 34})
    log = [(offset, 100 + offset, 0.5 * offset, now - (24 - offset) * 2 * DAY) for offset in range(20)]
    log += [(offset, 100 + offset, 2.0, now - (30 - offset)) for offset in range(20, 30)]
    told = sum(tell(client, "user:7", *event) for event in log)
    again = sum(tell(client, "user:7", *event) for event in log)
    print(f"{told} of {len(log)} events were new, and {again} when they came again")

    session = client.features(FIELDS, type="f8", default=0)  # What is the same is packed once.
    tensor = session(["user:7", "user:8"])
    rows, columns = tensor.shape
    print(f"{rows} × {columns} numbers of {len(tensor.fields)} fields")
    print("viewed:", tensor.column("viewed[20]")[0, :5].astype(int).tolist(), "...")
    for field in FIELDS[2:]:
        print(f"{field}: {tensor.column(field)[0]:g}")
    print("known of user:8:", int((tensor.statuses()[1] == mlserve.FieldStatus.PRESENT).sum()))


if __name__ == "__main__":
    main()
