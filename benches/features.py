"""The family `features`: the features of many entities, as a service reads them,
until they are a numpy array; as a batch writes them, from a numpy array; and what
they take of memory."""

import random
import statistics
import time

import numpy
import redis

from .figures import Figures, percentiles
from .load import pings_beside

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


def ways(client, fields):
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


def compare(server, rounds, group, values, calls):
    """Measures each way's calls in alternating rounds; the first is what the
    others are compared with."""
    first = next(iter(calls))
    all_figures = {name: Figures("features", group, name, first) for name in calls}
    for _ in range(rounds):
        for name, figures in all_figures.items():
            cpu, wall = measure(server, calls[name])
            figures.add(cpu_us=cpu * 1e6, time_ms=wall * 1e3,
                        values=values / cpu / 1e6 if cpu else None)
    return list(all_figures.values())


def fields_of(size):
    return [f"feature_{number:03}" for number in range(size)]


def reads(server, client, options):
    for size in options.features:
        all_ways = ways(client, fields_of(size))
        stored = min(10_000, 500_000 // size)
        client.execute_command("FLUSHALL", "SYNC")
        fill(numpy.random.default_rng(1), all_ways, stored, size)
        chance = random.Random(1)
        for entities in options.entities:
            count = max(20, options.reads // entities // max(size // 50, 1))
            requests = [[chance.randrange(stored) for _ in range(entities)] for _ in range(count)]
            expected = all_ways[0].read(requests[0])
            for way in all_ways:  # A check, and a warm-up.
                assert (way.read(requests[0]) == expected).all(), way.name
            calls = {way.name: [lambda way=way, keys=keys: way.read(keys) for keys in requests]
                     for way in all_ways}
            group = f"reading {entities} entities of {size} features into an array"
            yield from compare(server, options.rounds, group, entities * size, calls)


def writes(server, client, options):
    names = {"hash": "HSET, pipelined", "packed": "MSET, packed", "row": "ML.FEATUREMSET"}
    for size in options.features:
        writing = [way for way in ways(client, fields_of(size)) if way.write]
        stored = min(10_000, 500_000 // size)
        client.execute_command("FLUSHALL", "SYNC")
        array = numpy.random.default_rng(2).random((BATCH, size), dtype="f4")
        batches = [range(first, first + BATCH) for first in range(0, stored, BATCH)]
        calls = {names[way.prefix]: [lambda way=way, keys=keys: way.write(keys, array)
                                     for keys in batches] for way in writing}
        for several in calls.values():
            several[0]()
        group = f"writing {BATCH} entities of {size} features from an array"
        yield from compare(server, options.rounds, group, BATCH * size, calls)


def memory(client, options):
    for size in options.features:
        group = f"{size} features an entity: used_memory, key and all"
        for way in ways(client, fields_of(size)):
            if way.write:
                client.execute_command("FLUSHALL", "SYNC")
                before = client.info("memory")["used_memory"]
                fill(numpy.random.default_rng(1), [way], options.weighed, size)
                used = client.info("memory")["used_memory"] - before
                figures = Figures("features", group, way.prefix, "hash")
                figures.add(bytes=used / options.weighed)
                yield figures


def largest(client, options):
    """How long the largest call that is allowed keeps the server from all others:
    what the server itself counts as the time of the command."""
    values = int(client.config_get("ml.features-max-values")["ml.features-max-values"])
    values = min(values, options.largest)
    size = 50
    entities = values // size
    hset, _, featuremset = (way for way in ways(client, fields_of(size)) if way.write)
    client.execute_command("FLUSHALL", "SYNC")
    fill(numpy.random.default_rng(1), [hset, featuremset], entities, size)
    array = numpy.random.default_rng(2).random((entities, size), dtype="f4")

    def get(prefix, *form):
        names = [f"{prefix}:{key}" for key in range(entities)]
        return lambda: client.execute_command(
            "ML.FEATUREGET", entities, *names, "FIELDS", size, *fields_of(size), *form)

    group = f"one call of {entities:,} entities of {size} features, of the server's time"
    for name, command, call in [
        ("tensor of rows", "FEATUREGET", get("row", "AS", "TENSOR")),
        ("values of rows", "FEATUREGET", get("row")),
        ("JSON of rows", "FEATUREGET", get("row", "AS", "JSON")),
        ("tensor of hashes", "FEATUREGET", get("hash", "AS", "TENSOR")),
        ("values of hashes", "FEATUREGET", get("hash")),
        ("JSON of hashes", "FEATUREGET", get("hash", "AS", "JSON")),
        ("ML.FEATUREMSET", "FEATUREMSET", lambda: featuremset.write(range(entities), array)),
    ]:
        figures = Figures("features", group, name)
        for _ in range(options.rounds):
            client.config_resetstat()
            call()
            stats = {name.lower(): of_one for name, of_one in client.info("commandstats").items()}
            figures.add(time_ms=stats[f"cmdstat_ml.{command.lower()}"]["usec"] / 1e3)
        yield figures


def stall(server, client, options):
    """How long somebody else's PING waits while tensors of 500 entities of 250
    features are read one after another."""
    size, entities = 250, 500
    featuremset = ways(client, fields_of(size))[-1]
    client.execute_command("FLUSHALL", "SYNC")
    fill(numpy.random.default_rng(1), [featuremset], entities, size)
    figures = Figures("features", "PING beside tensors of 500 entities of 250 features", "PING")
    reader = ways(redis.Redis(port=server.port, protocol=2), fields_of(size))[-1]
    for _ in range(options.rounds):
        times = pings_beside(server, lambda: reader.read(range(entities)), options.pings)
        figures.add(**percentiles(times), longest_ms=max(times))
    yield figures


def family(server, options):
    client = redis.Redis(port=server.port, protocol=2)
    return [*memory(client, options), *largest(client, options),
            *writes(server, client, options), *reads(server, client, options),
            *stall(server, client, options)]
