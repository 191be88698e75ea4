"""The family `request`: a request of model serving, from a rate limit over the cached answer
to the features of a miss: by hand, as courses teach it, and with the module; with a round trip
for each step and with one for all; here, and where a round trip takes half a millisecond more."""

import asyncio
import time

from ..figures import Figures, percentiles
from ..server import Server
from .mix import Mix
from .players import (
    CONNECTIONS, at_most_speed, awaiting, blocking, build, ioredis_is_there, recorded, relayed,
    with_asyncio, with_client, with_client_of_asyncio, with_ioredis, with_redis_py,
)
from .ways import AT_ONCE, CLIENT_SERVE, HAND, OF_CLIENT, SERVE, WAYS

REDIS_PY, ASYNCIO, IOREDIS = "redis-py", "redis-py, asyncio", "ioredis"
DIRECT, NEAR, FAR = "on this machine", "by the relay", "by the relay, 0.5 ms away"
DELAY = 500
AT_SPEED = f"requests on {CONNECTIONS} connections, as fast as the server takes them"
RELAY = "the relay alone: PING"
ONE = "one after another"


def title(client, link):
    return f"{ONE}, {client}; {link}"


def family(server, options):
    build()
    ways = ways_of(server)
    users = max(options.keys // 10, 1)
    many = Bench(server, Mix(options.counted, users, options.value_bytes), options.rounds)
    yield from many.at_speed(ways)
    one = Bench(server, Mix(max(options.calls // 5, 40), users, options.value_bytes), options.rounds)
    with relayed(server.port, 0) as near, relayed(server.port, DELAY) as far:
        ports = {DIRECT: server.port, NEAR: near, FAR: far}
        yield from pings(server, ports, options)
        loop = asyncio.new_event_loop()
        there = ioredis_is_there()
        for link, port in ports.items():
            yield from one.in_python(title(REDIS_PY, link), ways, blocking,
                                     with_redis_py(port), with_client(port))
            if link == NEAR:  # What the relay itself costs is the same for all.
                continue
            yield from one.in_python(title(ASYNCIO, link), ways, awaiting(loop),
                                     with_asyncio(port), with_client_of_asyncio(port))
            if there:
                yield from one.in_javascript(title(IOREDIS, link), ways, port)
        loop.close()


def ways_of(server):
    """The ways that the server knows the commands of."""
    known = server.call("COMMAND", "INFO", SERVE) != [None]
    return {name: way for name, way in WAYS.items() if known or name != SERVE}


def pings(server, ports, options):
    several = {link: Figures("request", RELAY, link, DIRECT) for link in ports}
    lines = {link: Server(port, server.process) for link, port in ports.items()}
    for line in lines.values():
        line.connect()
    for _ in range(options.rounds):
        for link, figures in several.items():
            times = []
            for _ in range(options.pings):
                start = time.perf_counter()
                lines[link].call("PING")
                times.append((time.perf_counter() - start) * 1e3)
            figures.add(**percentiles(times))
    for line in lines.values():
        line.stream.close()
    return several.values()


class Bench:
    """A server, and the requests that it is asked in every way."""

    def __init__(self, server, mix, rounds):
        self.server = server
        self.mix = mix
        self.rounds = rounds
        self.written = {True: b"".join(mix.with_module()), False: b"".join(mix.by_hand())}

    def prepare(self, way):
        """A server with what was there before, and no more."""
        self.server.call("FLUSHALL", "SYNC")
        self.server.call_silently([self.written[way.with_module]])

    def recordings(self, ways):
        recordings = {}
        for name, way in ways.items():
            self.prepare(way)
            recordings[name] = recorded(self.server, way, self.mix.requests)
        return recordings

    def compared(self, group, ways, play):
        """Each way in every round, by what `play` measures of it."""
        several = [Figures("request", group, name, HAND) for name in ways]
        for turn in range(self.rounds + 1):
            for figures, (name, way) in zip(several, ways.items()):
                self.prepare(way)
                measured = play(name)
                if turn:  # The first is a warm-up.
                    figures.add(**measured)
        return several

    def at_speed(self, ways):
        recordings = self.recordings(ways)
        several = self.compared(AT_SPEED, ways,
                                lambda name: at_most_speed(self.server, recordings[name]))
        for figures in several:
            figures.add(trips=recordings[figures.name].mean())
        return several

    def in_python(self, group, ways, playing, ask, ask_of_client):
        players = {name: playing(way, ask) for name, way in ways.items()}
        players |= {name: playing(way, ask_of_client) for name, way in OF_CLIENT.items()}
        return self.compared(group, ways | OF_CLIENT,
                             lambda name: percentiles(players[name](self.mix.requests)))

    def in_javascript(self, group, ways, port):
        recordings = self.recordings(ways)
        return self.compared(
            group, ways, lambda name: percentiles(with_ioredis(self.server, port, recordings[name])))
