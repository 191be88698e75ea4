"""The family `events`: embeddings and histories read beside scalars, aggregates of
windows of time beside the same from sorted sets and hashes of counters, and what an
event costs, with an AOF and a replica."""

import random
import time

import numpy
import redis

from .features import compare, fields_of
from .figures import Figures
from .load import Load, at_most_speed
from .server import packed, started

ENTITIES = 200
SCALARS = fields_of(50)
DIM = 128
ITEMS = 20
MINUTES = 60
SPANS = (3600, 900)
AGGREGATES = [f"{name}(spend,{span})" for span in SPANS
              for name in ("count", "sum", "mean", "min", "max")]
WINDOWS = ("SPAN", 3600, "TILE", 60)

# Of each span: how many, their sum, the smallest and the largest.
SORTED_SET = """
local answer = {}
for _, span in ipairs({3600, 900}) do
  local now = tonumber(ARGV[1])
  local since = (math.floor(now / 60) + 1) * 60 - span
  local events = redis.call('ZRANGEBYSCORE', KEYS[1], since, now)
  local sum, least, most = 0, nil, nil
  for _, event in ipairs(events) do
    local amount = tonumber(string.match(event, ':(.*)'))
    sum = sum + amount
    if not least or amount < least then least = amount end
    if not most or amount > most then most = amount end
  end
  for _, one in ipairs({#events, sum, sum / #events, least, most}) do
    answer[#answer + 1] = tostring(one)
  end
end
return answer
"""

COUNTERS = """
local answer = {}
local minute = math.floor(tonumber(ARGV[1]) / 60)
for _, span in ipairs({3600, 900}) do
  local fields = {}
  for tile = minute - span / 60 + 1, minute do
    for _, kind in ipairs({'n', 's', 'l', 'm'}) do fields[#fields + 1] = kind .. tile end
  end
  local held = redis.call('HMGET', KEYS[1], unpack(fields))
  local count, sum, least, most = 0, 0, nil, nil
  for at = 1, #held, 4 do
    if held[at] then
      count, sum = count + tonumber(held[at]), sum + tonumber(held[at + 1])
      local low, high = tonumber(held[at + 2]), tonumber(held[at + 3])
      if not least or low < least then least = low end
      if not most or high > most then most = high end
    end
  end
  for _, one in ipairs({count, sum, sum / count, least, most}) do
    answer[#answer + 1] = tostring(one)
  end
end
return answer
"""


def family(server, options):
    client = redis.Redis(port=server.port)
    yield from histories(server, client, options)
    yield from aggregates(server, client, options)
    yield from tallies(options)


def requests_of(stored, options):
    chance = random.Random(1)
    count = max(20, options.reads // ENTITIES)
    return [[chance.randrange(stored) for _ in range(ENTITIES)] for _ in range(count)]


def tensor(client, prefix, keys, fields):
    names = [f"{prefix}:{key}" for key in keys]
    _, n, width, data, _ = client.execute_command(
        "ML.FEATUREGET", len(names), *names, "FIELDS", len(fields), *fields, "AS", "TENSOR")
    return numpy.frombuffer(data, "<f4").reshape(n, width)


def histories(server, client, options):
    stored = min(2_000, options.weighed)
    client.execute_command("FLUSHALL", "SYNC")
    chance = numpy.random.default_rng(1)
    width = len(SCALARS) + DIM + ITEMS
    for key in range(stored):
        values = chance.random(width, dtype="f4")
        scalars, vector, items = numpy.split(values, [len(SCALARS), len(SCALARS) + DIM])
        pairs = [word for pair in zip(SCALARS, scalars.astype(str)) for word in pair]
        client.execute_command(
            "ML.FEATURESET", f"row:{key}", "TYPES", len(SCALARS) + 1, *["F32"] * len(SCALARS),
            f"F32[{DIM}]", "FIELDS", len(SCALARS) + 1, *pairs, "embedding", vector.tobytes())
        client.execute_command("ML.FEATUREPUSH", f"row:{key}", "items", *items[::-1].astype(str),
                               "LAST", ITEMS, "TYPE", "F32")
        client.set(f"packed:{key}", values.tobytes())
    fields = [*SCALARS, f"embedding[{DIM}]", f"items[{ITEMS}]"]

    def mget(keys):
        packed = client.mget([f"packed:{key}" for key in keys])
        return numpy.frombuffer(b"".join(packed), "<f4").reshape(len(keys), width)

    ways = {"MGET, packed by hand": mget,
            "ML.FEATUREGET": lambda keys: tensor(client, "row", keys, fields)}
    group = (f"reading {ENTITIES} entities of {len(SCALARS)} scalars, an embedding of {DIM} and the "
             f"last {ITEMS} items into an array")
    yield from beside(server, ways, requests_of(stored, options), group, width, options)


def beside(server, ways, requests, group, width, options):
    expected = next(iter(ways.values()))(requests[0])
    for name, read in ways.items():  # A check, and a warm-up.
        assert numpy.allclose(read(requests[0]), expected, rtol=1e-5), name
    calls = {name: [lambda read=read, keys=keys: read(keys) for keys in requests]
             for name, read in ways.items()}
    for figures in compare(server, options.rounds, group, ENTITIES * width, calls):
        figures.family = "events"
        yield figures


def aggregates(server, client, options):
    stored = min(1_000, options.weighed)
    client.execute_command("FLUSHALL", "SYNC")
    now = int(time.time())
    minute = now // 60
    chance = random.Random(3)
    for key in range(stored):
        pipe = client.pipeline(transaction=False)
        for tile in range(minute - MINUTES + 1, minute):
            for event in range(2):
                amount = chance.randrange(1, 1_000)
                at = tile * 60 + 10 + event
                pipe.execute_command("ML.FEATURETALLY", f"row:{key}", "FIELDS", 1, "spend", amount,
                                     *WINDOWS, "AT", at * 1000)
                pipe.zadd(f"set:{key}", {f"{at}:{amount}": at})
                if event == 0:
                    first = amount
                else:
                    low, high = sorted((first, amount))
                    pipe.hset(f"counters:{key}", mapping={
                        f"n{tile}": 2, f"s{tile}": low + high, f"l{tile}": low, f"m{tile}": high})
        pipe.execute_command("ML.FEATURESET", f"plain:{key}", "TYPE", "F32", "FIELDS", 10,
                             *[word for name in SCALARS[:10] for word in (name, "0.5")])
        pipe.execute()
    scripts = {"set": client.register_script(SORTED_SET),
               "counters": client.register_script(COUNTERS)}

    def lua(prefix, keys):
        pipe = client.pipeline(transaction=False)
        for key in keys:
            scripts[prefix](keys=[f"{prefix}:{key}"], args=[int(time.time())], client=pipe)
        return numpy.array(pipe.execute(), dtype="f4")

    requests = requests_of(stored, options)
    ways = {
        "aggregates of windows": lambda keys: tensor(client, "row", keys, AGGREGATES),
        "sorted sets, Lua": lambda keys: lua("set", keys),
        "hashes of counters, Lua": lambda keys: lua("counters", keys),
    }
    expected = next(iter(ways.values()))(requests[0])
    for name, read in ways.items():
        assert numpy.allclose(read(requests[0]), expected, rtol=1e-5), name
    ways = {"ten scalars of rows": lambda keys: tensor(client, "plain", keys, SCALARS[:10])} | ways
    calls = {name: [lambda read=read, keys=keys: read(keys) for keys in requests]
             for name, read in ways.items()}
    group = f"ten aggregates of {ENTITIES} entities, {MINUTES} tiles each, into an array"
    for figures in compare(server, options.rounds, group, ENTITIES * 10, calls):
        figures.family = "events"
        yield figures


def tallies(options):
    """With an AOF and a replica: a million keys, each with all of its tiles."""
    keys = options.tallied
    load = Load(options.requests, keys)
    cases = {
        "HINCRBY": ["HINCRBY", "counter:__rand_int__", "spend", "1"],
        "ML.FEATURETALLY": ["ML.FEATURETALLY", "row:__rand_int__", "FIELDS", "1", "spend", "1",
                            *map(str, WINDOWS)],
    }
    group = f"an event, {keys:,} keys with {MINUTES} tiles each, an AOF and a replica"
    measured = {name: Figures("events", group, name, "HINCRBY") for name in cases}
    with started(options.server) as server, started(options.server) as replica:
        fill(server, keys)
        server.call("CONFIG", "SET", "appendonly", "yes")
        replica.call("REPLICAOF", "127.0.0.1", server.port)
        while replica.info("replication")["master_link_status"] != "up" or \
                int(server.info("persistence")["aof_rewrite_in_progress"]):
            time.sleep(0.1)
        for _ in range(options.rounds):
            for name, command in cases.items():
                measured[name].add(**at_most_speed(server, command, load, load.requests))
    yield from measured.values()


def fill(server, keys):
    """As many rows with all of their tiles, and as many hashes."""
    now = int(time.time())
    for minute in range(MINUTES):
        server.call("ML.FEATURETALLY", "row", "FIELDS", 1, "spend", 1, *WINDOWS,
                    "AT", (now - 60 * minute) * 1000)
    payload = server.call("DUMP", "row")
    server.call("DEL", "row")
    server.call_silently(packed(words) for key in range(keys) for words in (
        ("RESTORE", f"row:{key:012}", 0, payload), ("HSET", f"counter:{key:012}", "spend", 1)))
    assert server.call("DBSIZE") == 2 * keys
