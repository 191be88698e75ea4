"""The family `client`: what the Python client costs its caller. Beside the library's own
execute_command, on a connection that does nothing, and beside packing and reading alone;
and features into numpy, on the server, beside MGET of packed strings."""

import os
import time

import mlserve
import numpy
import redis
from mlserve._links import Links
from mlserve._where import Server as Where
from redis.connection import Connection

from .figures import Figures

CALL = ("ML.RATELIMIT", "user:1", 100, 60)
ENTITIES, FIELDS = 200, 50
BARE, RAW, OURS = "packing and reading alone", "execute_command of redis-py", "client.ratelimit"
PACKED, ROWS = "MGET, packed, frombuffer", "client.features into numpy"


class Stub(Connection):
    """A connection that sends nothing, and always has the same answer."""

    silent = os.pipe()[0]

    def connect(self):
        self._sock = self

    def fileno(self):
        return self.silent

    def settimeout(self, seconds):
        pass

    def shutdown(self, how):
        pass

    def close(self):
        pass

    def send_packed_command(self, command, check_health=True):
        pass

    def send_command(self, *words, **options):
        self._command_packer.pack(*words)

    def can_read(self, timeout=0):
        return False

    def read_response(self, *arguments, **options):
        return [1, 100, 99, 0, 60_000]


def on_a_stub():
    """Ways to make a call on a connection that does nothing, by name."""
    raw = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Stub))
    links = Links("redis", {"connection_class": Stub}, asynchronous=False)
    client = mlserve.Client(links, Where(("stub", 1)))
    bare = Stub()

    def packed_and_read():
        bare.send_command(*CALL)
        return bare.read_response()

    return {
        RAW: lambda: raw.execute_command(*CALL),
        OURS: lambda: client.ratelimit(*CALL[1:]),
        BARE: packed_and_read,
    }


def into_numpy(server):
    """Ways to have features of many entities as an array, by name."""
    values = numpy.random.default_rng(1).random((ENTITIES, FIELDS), "f4")
    keys = [f"item:{number}" for number in range(ENTITIES)]
    names = [f"feature_{number}" for number in range(FIELDS)]
    client = mlserve.Client.from_url(f"redis://127.0.0.1:{server.port}", timeout=20)
    raw = redis.Redis(port=server.port)
    raw.flushall()
    client.featuremset(keys, names, values)
    packed = [f"packed:{key}" for key in keys]
    raw.mset({key: row.tobytes() for key, row in zip(packed, values, strict=True)})
    asked = client.features(names)
    ways = {
        PACKED: lambda: numpy.frombuffer(b"".join(raw.mget(packed)), "<f4").reshape(ENTITIES, FIELDS),
        ROWS: lambda: asked(keys).numpy(),
    }
    for way in ways.values():
        assert numpy.array_equal(way(), values)
    return ways


def family(server, options):
    yield from compared("client", "a call on a connection that does nothing", on_a_stub(), RAW, "caller_us",
                        time.process_time, 1e6, options.calls, options.rounds)
    yield from compared("client", f"{ENTITIES} entities of {FIELDS} features into numpy", into_numpy(server),
                        PACKED, "time_ms", time.perf_counter, 1e3, max(options.calls // 50, 1),
                        options.rounds)


def compared(family, group, ways, beside, unit, clock, scale, calls, rounds):
    """Each way in every round, so many calls by this clock."""
    several = [Figures(family, group, name, beside) for name in ways]
    for _ in range(rounds):
        for figures, call in zip(several, ways.values()):
            begun = clock()
            for _ in range(calls):
                call()
            figures.add(**{unit: (clock() - begun) / calls * scale})
    return several
