"""What the Python client costs: beside the library's own execute_command, on a connection
that does nothing, and features into numpy beside MGET of packed strings, on a real server.

    python -m benches.client
"""

import os
import statistics
import time

import mlserve
import numpy
import redis
from mlserve._links import Links
from mlserve._where import Server as Where
from mlserve.server import Server
from redis.connection import Connection

ROUNDS = 15
ENTITIES, FIELDS = 200, 50


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


def per_call(call, count):
    begun = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - begun) / count * 1e6


def compared(name, ours, theirs, count):
    """Alternating rounds of both, in microseconds of CPU time or of the clock."""
    rounds = [(per_call(ours, count), per_call(theirs, count)) for _ in range(ROUNDS)]
    mine, other = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b in rounds)
    print(f"{name}: {mine:.1f} us beside {other:.1f} us, {ratio:.2f} times")


def on_a_stub():
    raw = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Stub))
    client = mlserve.Client(
        Links("redis", {"connection_class": Stub}, asynchronous=False), Where(("stub", 1)))
    compared(
        "ratelimit beside execute_command",
        lambda: client.ratelimit("user:1", 100, 60),
        lambda: raw.execute_command("ML.RATELIMIT", "user:1", 100, 60), 20_000)
    call = ("ML.RATELIMIT", "user:1", 100, 60)
    bare = Stub()

    def sent_and_read():
        bare.send_command(*call)
        return bare.read_response()

    compared("ratelimit beside a bare connection", lambda: client.ratelimit("user:1", 100, 60),
             sent_and_read, 20_000)


def features():
    values = numpy.random.default_rng(1).random((ENTITIES, FIELDS), "f4")
    keys = [f"item:{number}" for number in range(ENTITIES)]
    names = [f"feature_{number}" for number in range(FIELDS)]
    module = os.environ.get("MLSERVE_MODULE", "target/release/libmlserve.so")
    with Server(module=module) as server, mlserve.Client.from_url(server.url) as client:
        raw = redis.Redis.from_url(server.url)
        client.featuremset(keys, names, values)
        packed = [f"packed:{key}" for key in keys]
        raw.mset({key: row.tobytes() for key, row in zip(packed, values, strict=True)})
        asked = client.features(names)

        def ours():
            return asked(keys).numpy()

        def theirs():
            return numpy.frombuffer(b"".join(raw.mget(packed)), "<f4").reshape(ENTITIES, FIELDS)

        assert numpy.array_equal(ours(), values) and numpy.array_equal(theirs(), values)

        def clocked(call):
            begun = time.perf_counter()
            for _ in range(200):
                call()
            return (time.perf_counter() - begun) / 200 * 1e6

        rounds = [(clocked(ours), clocked(theirs)) for _ in range(ROUNDS)]
        mine, other = (statistics.median(figures) for figures in zip(*rounds, strict=True))
        ratio = statistics.median(a / b for a, b in rounds)
        print(f"features {ENTITIES} x {FIELDS} into numpy beside MGET of packed strings: "
              f"{mine:.0f} us beside {other:.0f} us, {ratio:.2f} times")


if __name__ == "__main__":
    on_a_stub()
    features()
