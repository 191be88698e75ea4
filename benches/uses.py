"""The family `uses`: what a caller in Python waits for, with redis-py: the three
uses by hand, as courses teach them, and with the module."""

import hashlib
import json
import random
import time

import redis

from .figures import Figures, percentiles

USERS = 10_000
FEATURES = 20
TTL = 3600
SCORE = [0.25, 0.75]


def by_hand(client):
    def limit(user):
        """Two round trips for the first call of a window, one after."""
        key = f"hand:rate:{user}"
        count = client.incr(key)
        if count == 1:
            client.expire(key, 60)
        return count <= 1_000_000

    def score(text):
        key = "hand:pred:" + hashlib.sha256(text.encode()).hexdigest()
        known = client.get(key)
        if known is not None:
            return json.loads(known)
        client.set(key, json.dumps(SCORE), ex=TTL)
        return SCORE

    def features(user):
        fields = client.hgetall(f"user:{user}")
        return [float(fields[name]) for name in NAMES_IN_BYTES]

    return limit, score, features


def with_module(client):
    def limit(user):
        return client.execute_command("ML.RATELIMIT", f"rate:{user}", 1_000_000, 60)[0] > 0

    def score(text):
        key = "pred:" + hashlib.sha256(text.encode()).hexdigest()
        known = client.execute_command("ML.CACHEGET", key, "v1")
        if known is not None:
            return json.loads(known)
        client.execute_command("ML.CACHESET", key, "v1", json.dumps(SCORE), "EX", TTL)
        return SCORE

    def features(user):
        return list(map(float, client.execute_command("ML.FEATURES", f"user:{user}", *NAMES)))

    return limit, score, features


NAMES = [f"feature_{number:02}" for number in range(FEATURES)]
NAMES_IN_BYTES = [name.encode() for name in NAMES]


def script_limiter(client):
    """What the by-hand limiter becomes once it is made atomic."""
    from .peers import FIXED_WINDOW

    script = client.register_script(FIXED_WINDOW)
    return lambda user: script([f"script:rate:{user}"], [1_000_000, 60]) == 1


def family(server, options):
    client = redis.Redis(port=server.port, protocol=2)
    client.flushall()
    chance = random.Random(1)
    pipe = client.pipeline(transaction=False)
    for user in range(USERS):
        pipe.hset(f"user:{user}", mapping={name: f"{chance.random():.6f}" for name in NAMES})
    pipe.execute()

    hand, module = by_hand(client), with_module(client)
    users = [chance.randrange(USERS) for _ in range(options.calls)]
    texts = [f"text {user}" for user in users]
    everything = [
        ("a rate limit", [("INCR, EXPIRE", hand[0]), ("one Lua script", script_limiter(client)),
                          ("ML.RATELIMIT", module[0])], users),
        ("an answer from the cache", [("GET", hand[1]), ("ML.CACHEGET", module[1])], texts),
        (f"{FEATURES} features of a user", [("HGETALL", hand[2]), ("ML.FEATURES", module[2])],
         users),
        ("a request: all three", [
            ("by hand", lambda user: (hand[0](user), hand[1](f"text {user}"), hand[2](user))),
            ("with the module",
             lambda user: (module[0](user), module[1](f"text {user}"), module[2](user)))], users),
    ]
    for what, ways, arguments in everything:
        group = f"{what}, with redis-py, one call after another"
        several = [Figures("uses", group, name, ways[0][0]) for name, _ in ways]
        for _, call in ways:  # A warm-up: what is missing from the cache comes into it.
            for argument in arguments:
                call(argument)
        for _ in range(options.rounds):
            for (_, call), figures in zip(ways, several):
                figures.add(**percentiles(list(map(timed(call), arguments))))
        yield from several


def timed(call):
    def milliseconds(argument):
        start = time.perf_counter()
        call(argument)
        return (time.perf_counter() - start) * 1e3

    return milliseconds
