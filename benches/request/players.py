"""Those who make the requests: clients in Python, one request after another, ioredis the
same, and a program that makes them on several connections as fast as the server takes them."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlserve
import redis
import redis.asyncio

from ..server import ROOT, packed

HERE = Path(__file__).parent
BUILT = ROOT / "target/request"
IOREDIS = "ioredis@6.0.0"
CONNECTIONS = 16


# Clients in Python.

def with_redis_py(port):
    """A function that makes a round trip."""
    client = redis.Redis(port=port, protocol=2)

    def ask(trip):
        if len(trip) == 1:
            return [client.execute_command(*trip[0])]
        pipe = client.pipeline(transaction=False)
        for words in trip:
            pipe.execute_command(*words)
        return pipe.execute()

    return ask


def with_asyncio(port):
    client = redis.asyncio.Redis(port=port, protocol=2)

    async def ask(trip):
        if len(trip) == 1:
            return [await client.execute_command(*trip[0])]
        pipe = client.pipeline(transaction=False)
        for words in trip:
            pipe.execute_command(*words)
        return await pipe.execute()

    return ask


def with_client(port):
    client = mlserve.Client.from_url(f"redis://127.0.0.1:{port}", timeout=20)

    def ask(trip):
        if len(trip) == 1:
            return [client.run(trip[0])]
        pipe = client.pipeline()
        for call in trip:
            pipe.run(call)
        return pipe.execute()

    return ask


def with_client_of_asyncio(port):
    client = mlserve.aio.Client.from_url(f"redis://127.0.0.1:{port}", timeout=20)

    async def ask(trip):
        if len(trip) == 1:
            return [await client.run(trip[0])]
        pipe = client.pipeline()
        for call in trip:
            pipe.run(call)
        return await pipe.execute()

    return ask


def blocking(way, ask):
    """A player: the milliseconds that each request takes."""
    call = way.driven(ask)

    def play(requests):
        times, outcomes = [], []
        for request in requests:
            start = time.perf_counter()
            outcomes.append(call(request))
            times.append((time.perf_counter() - start) * 1e3)
        check(requests, outcomes)
        return times

    return play


def awaiting(loop):
    """The same in an event loop, of which it is the only task."""
    def player(way, ask):
        call = way.awaited(ask)

        async def play(requests):
            times, outcomes = [], []
            for request in requests:
                start = time.perf_counter()
                outcomes.append(await call(request))
                times.append((time.perf_counter() - start) * 1e3)
            check(requests, outcomes)
            return times

        return lambda requests: loop.run_until_complete(play(requests))

    return player


def check(requests, outcomes):
    for request, (ending, result) in zip(requests, outcomes, strict=True):
        result = result if result is None or isinstance(result, bytes) else list(result)
        assert (ending, result) == request.outcome(), (request, ending, result)


# Players that only send what a request would: the round trips of each, told beforehand.

@dataclass
class Recording:
    """The round trips of each request, and what they find."""

    trips: list
    found: list

    def mean(self):
        return sum(map(len, self.trips)) / len(self.trips)


def recorded(server, way, requests):
    """What the requests send when made that way, and how they end."""
    trips = []

    def ask(trip):
        trips[-1].append(trip)
        return server.call_together(trip)

    def recorded_call(request):
        trips.append([])
        return call(request)

    call, before = way.driven(ask), findings(server)
    check(requests, list(map(recorded_call, requests)))
    return Recording(trips, since(server, before))


def findings(server):
    info = server.info("everything")
    return [int(info[name]) for name in ("keyspace_hits", "keyspace_misses", "ml_cache_hits",
                                         "ml_cache_misses")]


def since(server, before):
    return [now - then for now, then in zip(findings(server), before)]


@contextmanager
def as_recorded(server, recording):
    """What is played within finds what was found when it was recorded."""
    before = findings(server)
    yield
    found = since(server, before)
    assert found == recording.found, (found, recording.found)


def at_most_speed(server, recording):
    """All requests on several connections: thousands a second, and the server's CPU
    microseconds each."""
    lines = bytearray()
    for number, trips in enumerate(recording.trips):
        for trip in trips:
            blob = b"".join(map(packed, trip))
            lines += b"%d %d %d\n" % (number % CONNECTIONS, len(trip), len(blob)) + blob
    with as_recorded(server, recording):
        before = server.cpu_seconds()
        seconds = subprocess.run([BUILT / "trips", str(server.port)], input=bytes(lines), check=True,
                                 stdout=subprocess.PIPE, timeout=900).stdout
        cpu = server.cpu_seconds() - before
    count = len(recording.trips)
    return {"rate": count / float(seconds) / 1e3, "cpu_us": cpu / count * 1e6}


def with_ioredis(server, port, recording):
    """The milliseconds of each request."""
    with as_recorded(server, recording):
        played = subprocess.run(
            ["node", HERE / "ioredis.js", str(port)], input=json.dumps(recording.trips), check=True,
            stdout=subprocess.PIPE, text=True, timeout=900,
            env=os.environ | {"NODE_PATH": str(BUILT / "node_modules")})
    return json.loads(played.stdout)


def ioredis_is_there():
    """Installs it; says so where node is missing."""
    if not (shutil.which("node") and shutil.which("npm")):
        print("ioredis is not measured: node and npm are not there", file=sys.stderr)
        return False
    subprocess.run(["npm", "install", "--prefer-offline", "--silent", "--no-audit", "--no-fund",
                    "--prefix", BUILT, IOREDIS], check=True, stdout=subprocess.DEVNULL)
    return True


def build():
    """The programs in Rust, of the standard library alone."""
    BUILT.mkdir(parents=True, exist_ok=True)
    for name in ("trips", "relay"):
        subprocess.run(["rustc", "--edition=2024", "-O", "-o", BUILT / name, HERE / f"{name}.rs"],
                       check=True)


@contextmanager
def relayed(port, microseconds):
    """A port that leads to this one, later: each round trip takes so much longer."""
    process = subprocess.Popen([BUILT / "relay", str(port), str(microseconds)],
                               stdout=subprocess.PIPE)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
