"""Single commands on random keys, ours and those of others."""

from dataclasses import dataclass

from . import peers

KEY = "key:__rand_int__"
INPUT = "pred:__rand_int__"  # In the namespace `pred`.
VALUE = "__value__"  # Stands for as many bytes as --value-bytes says.


@dataclass(frozen=True)
class Case:
    """A command of the load. `filled` is the command that has written every key
    before; `many` is how many keys one call names; `beside` is the case that it
    is compared with; `lua` a script that the words are the arguments of."""

    name: str
    words: tuple
    beside: str = ""
    config: tuple = ()
    filled: tuple = ()
    many: int = 1
    lua: str = ""

    def command(self, server):
        if not self.lua:
            return self.words
        sha = server.call("SCRIPT", "LOAD", self.lua).decode()
        return ("EVALSHA", sha, "1", *self.words)


# What cases change, as it comes.
DEFAULTS = ("ml.ratelimit-algorithm", "FIXED")
GCRA = ("ml.ratelimit-algorithm", "GCRA")
SLIDING = ("ml.ratelimit-algorithm", "SLIDING")

LIMIT = ("1000", "3600")  # Few enough that keys stay, and that nothing is denied.
USED_UP = ("ML.RATELIMIT", KEY, "1", "3600")  # All but the first are denied.
THREE = ("1000", "60", "1000", "3600", "1000", "86400")
PLAIN = ("SET", INPUT, VALUE, "EX", "3600")
CACHED = ("ML.CACHESET", INPUT, "v7", VALUE, "EX", "3600")

SET, GET, MGET = "SET with EX", "GET", "MGET of 100"

RATELIMIT = [
    Case(SET, ("SET", KEY, "abc", "EX", "60"), SET),
    Case("INCR", ("INCR", KEY), SET),
    Case("ML.RATELIMIT", ("ML.RATELIMIT", KEY, *LIMIT), SET),
    Case("denied", USED_UP, SET, filled=USED_UP),
    Case("three windows", ("ML.RATELIMIT", KEY, *THREE), SET),
    Case("GCRA", ("ML.RATELIMIT", KEY, *LIMIT), SET, GCRA),
    Case("SLIDING", ("ML.RATELIMIT", KEY, *LIMIT), SET, SLIDING),
    Case("Lua, INCR and EXPIRE", (KEY, *LIMIT), SET, lua=peers.FIXED_WINDOW),
    Case("Lua, two counters", (KEY, *LIMIT), SET, lua=peers.SLIDING_COUNTERS),
    Case("Lua, sorted set", (KEY, *LIMIT), SET, lua=peers.SORTED_SET_LOG),
    Case("Lua, GCRA", (KEY, *LIMIT), SET, lua=peers.GCRA),
]

CACHE = [
    Case(SET, PLAIN, SET),
    Case("ML.CACHESET", CACHED, SET),
    Case(GET, ("GET", INPUT), GET, filled=PLAIN),
    Case("ML.CACHEGET", ("ML.CACHEGET", INPUT, "v7"), GET, filled=CACHED),
    Case("ML.CACHEFETCH, a hit", ("ML.CACHEFETCH", INPUT, "v7", "LEASE", "1000"), GET,
         filled=CACHED),
    Case("Lua lock, a hit", (INPUT, "token", "1000"), GET, filled=PLAIN, lua=peers.SINGLE_FLIGHT),
    Case(MGET, ("MGET", *[INPUT] * 100), MGET, filled=PLAIN, many=100),
    Case("ML.CACHEMGET of 100", ("ML.CACHEMGET", "100", *[INPUT] * 100, "v7"), MGET, filled=CACHED,
         many=100),
]

NAMES = tuple(f"feature_{number:03}" for number in range(50))
HASH = ("HSET", KEY, *(word for name in NAMES for word in (name, "0.12345678")))
PACKED = ("SET", KEY, VALUE)
ROW = ("ML.FEATUREMSET", "1", KEY, VALUE, "TYPE", "F32", "FIELDS", "50", *NAMES)
TENSOR = ("FIELDS", "50", *NAMES, "AS", "TENSOR")
HMGET, ROWS = "HMGET of 50", "MGET of 100 packed"

# 50 features, 200 bytes as a row of singles: for counting instructions.
FEATURES = [
    Case(HMGET, ("HMGET", KEY, *NAMES), HMGET, filled=HASH),
    Case("HGETALL of 50", ("HGETALL", KEY), HMGET, filled=HASH),
    Case("ML.FEATURES, a hash", ("ML.FEATURES", KEY, *NAMES), HMGET, filled=HASH),
    Case("ML.FEATURES, a row", ("ML.FEATURES", KEY, *NAMES), HMGET, filled=ROW),
    Case(ROWS, ("MGET", *[KEY] * 100), ROWS, filled=PACKED, many=100),
    Case("ML.FEATUREGET of 100 rows", ("ML.FEATUREGET", "100", *[KEY] * 100, *TENSOR), ROWS,
         filled=ROW, many=100),
]

# Limiters of other modules, by the command that shows that one is loaded.
OF_MODULES = {
    "CL.THROTTLE": Case("redis-cell", ("CL.THROTTLE", KEY, "999999", *LIMIT), SET),
}

# For scaling: one of each kind, beside its like. All keys are there before, lest
# their number be that of the calls.
CHARGED = ("ML.RATELIMIT", KEY, "1000000", "3600")
SHORT = ("SET", KEY, "abc", "EX", "3600")
SCALED = [
    Case(SET, SHORT, SET, filled=SHORT),
    Case("ML.RATELIMIT", CHARGED, SET, filled=CHARGED),
    Case(GET, ("GET", INPUT), GET, filled=PLAIN),
    Case("ML.CACHEGET", ("ML.CACHEGET", INPUT, "v7"), GET, filled=CACHED),
]
