"""The family `features` of scripts/bench: the features of many entities, as a
service reads them, until they are a numpy array; as a batch writes them, from a
numpy array; and what they take of memory."""

import random
import statistics
import sys
import time

ENTITIES = (1, 50, 200, 500)
FEATURES = (10, 50, 250)
BATCH = 200
WEIGHED = 100_000


class Way:
    """One way to read: `read` returns an array of the entities' features; or to
    write: `write` takes keys and such an array. `prefix` is that of the keys."""

    def __init__(self, name, prefix, read=None, write=None):
        self.name = name
        self.prefix = prefix
        self.read = read
        self.write = write


def ways(numpy, client, fields):
    size = len(fields)
    encoded = [field.encode() for field in fields]

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

    def hset(keys, array):
        pipe = client.pipeline(transaction=False)
        for key, values in zip(keys, array.astype(str)):
            pipe.hset(f"hash:{key}", mapping=dict(zip(fields, values.tolist())))
        pipe.execute()

    def mget(keys):
        packed = client.mget([f"packed:{key}" for key in keys])
        return numpy.frombuffer(b"".join(packed), "<f4").reshape(len(keys), size)

    def mset(keys, array):
        client.mset({f"packed:{key}": values.tobytes() for key, values in zip(keys, array)})

    def get(prefix, keys, *form):
        names = [f"{prefix}:{key}" for key in keys]
        return client.execute_command(
            "ML.FEATUREGET", len(names), *names, "FIELDS", size, *fields, *form)

    def tensor(prefix, keys):
        _, n, m, data, _ = get(prefix, keys, "AS", "TENSOR")
        return numpy.frombuffer(data, "<f4").reshape(n, m)

    def featuremset(keys, array):
        names = [f"row:{key}" for key in keys]
        client.execute_command("ML.FEATUREMSET", len(names), *names, array.tobytes(),
                               "TYPE", "F32", "FIELDS", size, *fields)

    return [
        Way("HMGET, pipelined", "hash", hmget, hset),
        Way("HGETALL, pipelined", "hash", hgetall),
        Way("MGET, packed", "packed", mget, mset),
        Way("values of hashes", "hash", lambda keys: numpy.array(get("hash", keys), dtype="f4")),
        Way("tensor of hashes", "hash", lambda keys: tensor("hash", keys)),
        Way("tensor of rows", "row", lambda keys: tensor("row", keys), featuremset),
    ]


def fill(chance, all_ways, entities, size):
    """Writes the same features in every way that there is."""
    for first in range(0, entities, 500):
        keys = range(first, min(first + 500, entities))
        array = chance.random((len(keys), size), dtype="f4")
        for way in all_ways:
            if way.write:
                way.write(keys, array)


def measure(server, calls):
    """The server's CPU seconds, and the seconds until there is an answer, of each
    call."""
    before = server.cpu_seconds()
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return (server.cpu_seconds() - before) / len(calls), statistics.median(times)


def compare(server, rounds, spread, values, calls, unit):
    """Measures each way's calls in alternating rounds, the first being what the
    others are compared with."""
    figures = {name: [] for name in calls}
    for _ in range(rounds):
        for name, rows in figures.items():
            rows.append(measure(server, calls[name]))
    print(f"    {'':20} {'server µs':>10} {'M values/CPU s':>15} {unit:>15}   "
          f"{'values/CPU s':24} {'time':20} relative to the first")
    base = next(iter(figures.values()))
    for name, rows in figures.items():
        cpu, wall = (statistics.median(column) for column in zip(*rows))
        rates = [other[0] / mine[0] for mine, other in zip(rows, base)]
        walls = [mine[1] / other[1] for mine, other in zip(rows, base)]
        print(f"    {name:20} {cpu * 1e6:10.1f} {values / cpu / 1e6:15.2f} {wall * 1e3:15.3f}   "
              f"{spread(rates):24} {spread(walls):20}", flush=True)


def report_reads(numpy, server, client, rounds, spread):
    for size in FEATURES:
        fields = [f"feature_{number:03}" for number in range(size)]
        all_ways = ways(numpy, client, fields)
        stored = min(10_000, 500_000 // size)
        client.execute_command("FLUSHALL", "SYNC")
        fill(numpy.random.default_rng(1), all_ways, stored, size)
        chance = random.Random(1)
        for entities in ENTITIES:
            count = max(20, 20_000 // entities // max(size // 50, 1))
            requests = [[chance.randrange(stored) for _ in range(entities)] for _ in range(count)]
            expected = all_ways[0].read(requests[0])
            for way in all_ways:  # A check, and a warm-up.
                assert (way.read(requests[0]) == expected).all(), way.name
            calls = {way.name: [lambda way=way, keys=keys: way.read(keys) for keys in requests]
                     for way in all_ways}
            print(f"reading {entities} entities of {size} features")
            compare(server, rounds, spread, entities * size, calls, "ms to an array")


def report_writes(numpy, server, client, rounds, spread):
    for size in FEATURES:
        fields = [f"feature_{number:03}" for number in range(size)]
        writing = [way for way in ways(numpy, client, fields) if way.write]
        stored = min(10_000, 500_000 // size)
        client.execute_command("FLUSHALL", "SYNC")
        array = numpy.random.default_rng(2).random((BATCH, size), dtype="f4")
        batches = [range(first, first + BATCH) for first in range(0, stored, BATCH)]
        names = {"hash": "HSET, pipelined", "packed": "MSET, packed", "row": "FEATUREMSET"}
        for what in ("new", "known"):
            calls = {names[way.prefix]:
                     [lambda way=way, keys=keys: way.write(keys, array) for keys in batches]
                     for way in writing}
            print(f"writing {BATCH} {what} entities of {size} features")
            # New is an entity once only.
            compare(server, rounds if what == "known" else 1, spread, BATCH * size, calls,
                    "ms from an array")


def report_memory(numpy, client):
    print(f"bytes of used_memory an entity, of {WEIGHED}: key and all")
    for size in FEATURES:
        fields = [f"feature_{number:03}" for number in range(size)]
        figures = []
        for way in ways(numpy, client, fields):
            if way.write:
                client.execute_command("FLUSHALL", "SYNC")
                before = client.info("memory")["used_memory"]
                fill(numpy.random.default_rng(1), [way], WEIGHED, size)
                used = client.info("memory")["used_memory"] - before
                figures.append(f"{way.prefix} {used / WEIGHED:.0f}")
        print(f"    {size:3} features: {', '.join(figures)}", flush=True)


def report_largest(numpy, client, rounds, spread):
    """How long the largest call that is allowed keeps the server from all others:
    what the server itself counts as the time of the command."""
    values = int(client.config_get("ml.features-max-values")["ml.features-max-values"])
    size = 50
    fields = [f"feature_{number:03}" for number in range(size)]
    entities = values // size
    hset, mset, featuremset = (way for way in ways(numpy, client, fields) if way.write)
    client.execute_command("FLUSHALL", "SYNC")
    fill(numpy.random.default_rng(1), [hset, featuremset], entities, size)
    array = numpy.random.default_rng(2).random((entities, size), dtype="f4")

    def get(prefix, *form):
        names = [f"{prefix}:{key}" for key in range(entities)]
        return lambda: client.execute_command(
            "ML.FEATUREGET", entities, *names, "FIELDS", size, *fields, *form)

    print(f"the server's ms for one call of {entities} entities of {size} features")
    for name, command, call in [
        ("tensor of rows", "FEATUREGET", get("row", "AS", "TENSOR")),
        ("values of rows", "FEATUREGET", get("row")),
        ("JSON of rows", "FEATUREGET", get("row", "AS", "JSON")),
        ("tensor of hashes", "FEATUREGET", get("hash", "AS", "TENSOR")),
        ("values of hashes", "FEATUREGET", get("hash")),
        ("JSON of hashes", "FEATUREGET", get("hash", "AS", "JSON")),
        ("FEATUREMSET", "FEATUREMSET", lambda: featuremset.write(range(entities), array)),
    ]:
        times = []
        for _ in range(rounds):
            client.config_resetstat()
            call()
            stats = client.info("commandstats")
            stats = {name.lower(): figures for name, figures in stats.items()}
            times.append(stats[f"cmdstat_ml.{command.lower()}"]["usec"] / 1e3)
        print(f"    {name:20} {spread(times, 1)}", flush=True)


def report(server, rounds, spread):
    try:
        import numpy
        import redis
    except ImportError:
        sys.exit("numpy and redis are needed: target/venv/bin/python scripts/bench features")
    client = redis.Redis(port=server.port, protocol=2)
    report_memory(numpy, client)
    report_largest(numpy, client, rounds, spread)
    report_writes(numpy, server, client, rounds, spread)
    report_reads(numpy, server, client, rounds, spread)
