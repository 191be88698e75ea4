"""The features of a ranking request: numpy arrays into rows, and out of them.

    pip install redis numpy
    python ranking_features.py            # in this folder

Wants a Redis that has the module loaded, at REDIS_URL (redis://127.0.0.1:6379).

`Features` is made to be copied. A batch of a pipeline is one command, and so are
the features of all candidates of a request: one buffer each, which numpy reads and
writes as it is.
"""

import os
import time

import numpy
import redis

PRESENT, NOT_A_NUMBER, NOT_FOUND, TOO_OLD = 1, 0, 3, 4


class Features:
    """Features as rows, of 32-bit floats.

    A view is what one pipeline writes: it has an event time and a time to live of
    its own. Its fields are read as `view:field`.
    """

    def __init__(self, client):
        # One that answers bytes, as redis-py does unless told otherwise.
        self.client = client

    def write(self, view, keys, fields, array, at_ms, ttl_s):
        """Writes array[i, j] as field j of key i; which of the keys took it.

        A key that holds something newer than `at_ms` does not: batches may come
        late, or twice.
        """
        array = numpy.ascontiguousarray(array, "<f4")
        if array.shape != (len(keys), len(fields)):
            raise ValueError(f"{len(keys)} keys of {len(fields)} fields, but {array.shape} values")
        written = self.client.execute_command(
            "ML.FEATUREMSET", len(keys), *keys, array.tobytes(), "TYPE", "F32",
            "FIELDS", len(fields), *fields, "VIEW", view, "AT", at_ms, "EX", ttl_s)
        return numpy.array(written, bool)

    def read(self, keys, fields, max_age_ms=None):
        """The values, NaN where there is none, and why there is none."""
        age = () if max_age_ms is None else ("MAXAGE", max_age_ms)
        _, n, m, data, status = self.client.execute_command(
            "ML.FEATUREGET", len(keys), *keys, "FIELDS", len(fields), *fields, "AS", "TENSOR", *age)
        values = numpy.frombuffer(data, "<f4").reshape(n, m)
        return values, numpy.frombuffer(status, "u1").reshape(n, m)


def main():
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    features = Features(redis.Redis.from_url(url))
    random = numpy.random.default_rng(7)
    items = [f"item:{number}" for number in range(200)]
    names = [f"score_{number:02}" for number in range(49)]
    now_ms = time.time_ns() // 1_000_000

    # A batch of the hour, which a job writes for all items; and clicks, which a
    # stream writes for the items that are seen.
    features.write("daily", items, names, random.random((200, 49)), now_ms - 3_600_000, 86_400)
    features.write("clicks", items[:150], ["rate"], random.random((150, 1)), now_ms, 600)
    replayed = features.write("daily", items, names, numpy.zeros((200, 49)), now_ms - 7_200_000, 60)
    print(f"a replayed batch changed {replayed.sum()} of {len(replayed)} items")

    wanted = [f"daily:{name}" for name in names] + ["clicks:rate"]
    start = time.perf_counter()
    values, status = features.read(items, wanted)
    took_ms = (time.perf_counter() - start) * 1e3
    print(f"{values.shape[0]} x {values.shape[1]} values of {values.dtype} in {took_ms:.2f} ms")
    for name, meaning in [("present", PRESENT), ("not found", NOT_FOUND)]:
        print(f"{name}: {(status == meaning).sum()}")
    _, status = features.read(items, wanted, max_age_ms=1_800_000)
    print(f"older than half an hour: {(status == TOO_OLD).sum()}")


if __name__ == "__main__":
    main()
