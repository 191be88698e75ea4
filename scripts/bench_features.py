"""The family `features` of scripts/bench: the features of many entities, as a
service reads them, until they are a numpy array."""

import random
import statistics
import sys
import time

GRID = [(1, 50), (50, 50), (200, 10), (200, 50), (200, 250), (500, 50)]


class Way:
    """One way to read: `read` returns an array of the entities' features."""

    def __init__(self, name, read):
        self.name = name
        self.read = read


def ways(numpy, client, fields):
    size = len(fields)

    def hmget(keys):
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.hmget(f"hash:{key}", fields)
        return numpy.array(pipe.execute(), dtype="f4")

    def hgetall(keys):
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(f"hash:{key}")
        rows = pipe.execute()
        return numpy.array([[row[field] for field in encoded] for row in rows], dtype="f4")

    def mget(keys):
        packed = client.mget([f"packed:{key}" for key in keys])
        return numpy.frombuffer(b"".join(packed), "<f4").reshape(len(keys), size)

    def get(keys, *form):
        names = [f"hash:{key}" for key in keys]
        return client.execute_command(
            "ML.FEATUREGET", len(names), *names, "FIELDS", size, *fields, *form)

    def tensor(keys):
        _, n, m, data, _ = get(keys, "AS", "TENSOR")
        return numpy.frombuffer(data, "<f4").reshape(n, m)

    encoded = [field.encode() for field in fields]
    return [
        Way("HMGET, pipelined", hmget),
        Way("HGETALL, pipelined", hgetall),
        Way("MGET, packed", mget),
        Way("FEATUREGET, values", lambda keys: numpy.array(get(keys), dtype="f4")),
        Way("FEATUREGET, tensor", tensor),
    ]


def fill(numpy, client, entities, fields):
    """Writes the same features as hashes and as packed strings."""
    chance = numpy.random.default_rng(1)
    for first in range(0, entities, 500):
        pipe = client.pipeline(transaction=False)
        for key in range(first, min(first + 500, entities)):
            values = chance.random(len(fields), dtype="f4")
            pipe.hset(f"hash:{key}", mapping=dict(zip(fields, map(str, values))))
            pipe.set(f"packed:{key}", values.tobytes())
        pipe.execute()


def measure(server, way, requests):
    """The server's CPU seconds, and the seconds until there is an array, of each
    request."""
    before = server.cpu_seconds()
    times = []
    for keys in requests:
        start = time.perf_counter()
        way.read(keys)
        times.append(time.perf_counter() - start)
    return (server.cpu_seconds() - before) / len(requests), statistics.median(times)


def report(server, rounds, spread):
    try:
        import numpy
        import redis
    except ImportError:
        sys.exit("numpy and redis are needed: target/venv/bin/python scripts/bench features")
    client = redis.Redis(port=server.port, protocol=2)
    for entities, features in GRID:
        fields = [f"feature_{number:03}" for number in range(features)]
        stored = min(10_000, 500_000 // features)
        client.flushall()
        fill(numpy, client, stored, fields)
        all_ways = ways(numpy, client, fields)
        chance = random.Random(1)
        count = max(20, 20_000 // entities // max(features // 50, 1))
        requests = [[chance.randrange(stored) for _ in range(entities)] for _ in range(count)]
        expected = all_ways[0].read(requests[0])
        for way in all_ways:  # A check, and a warm-up.
            assert (way.read(requests[0]) == expected).all(), way.name
        figures = {way.name: [] for way in all_ways}
        for _ in range(rounds):
            for way in all_ways:
                figures[way.name].append(measure(server, way, requests))
        print(f"{entities} entities of {features} features")
        print(f"    {'':20} {'server µs':>10} {'M values/CPU s':>15} {'ms to an array':>15}   "
              f"{'values/CPU s':20} {'time to an array':20} relative to HMGET")
        base = figures[all_ways[0].name]
        for way in all_ways:
            rows = figures[way.name]
            cpu, wall = (statistics.median(column) for column in zip(*rows))
            rates = [other[0] / mine[0] for mine, other in zip(rows, base)]
            walls = [mine[1] / other[1] for mine, other in zip(rows, base)]
            print(f"    {way.name:20} {cpu * 1e6:10.1f} {entities * features / cpu / 1e6:15.2f} "
                  f"{wall * 1e3:15.3f}   {spread(rates):20} {spread(walls):20}", flush=True)
