"""Data that one version of the module writes, and whether another still knows it.

For test_package_upgrade.py and test_package_downgrade.py.

`write` and `check` use the commands of whichever version answers.
"""

import base64
import struct
import subprocess
import time

import redis

DISTANT = 4_102_444_800  # 2100-01-01
YEAR = 31_622_400  # the longest window
DAY = 86_400
HOLD = YEAR * 1000


def has(client, command):
    return bool(client.execute_command("COMMAND LIST", "FILTERBY", "PATTERN", command))


def write(client):
    """Keys of all types and encodings; returns what `check` has to know."""

    call = client.execute_command

    def charge(key, cost, *more):
        return call("ML.RATELIMIT", key, 10, YEAR, "COST", cost, *more)

    call("SET", "plain", "text")
    charge("limit:fixed", 3)
    call("ML.RATELIMIT", "limit:two", 10, YEAR, 7, YEAR // 2, "COST", 3)
    charge("limit:sliding", 4, "ALGORITHM", "SLIDING")
    charge("limit:bucket", 5, "ALGORITHM", "GCRA")
    if has(client, "ml.admit"):
        reserved = charge("limit:reserved", 6, "HOLD", HOLD)[5]
        permit = call("ML.ADMIT", 1, "permit", "PERMIT", 4, "COST", 3, "HOLD", HOLD)[1]
    else:
        reserved = charge("limit:reserved", 6, "RESERVE", HOLD)[5]
        permit = call("ML.PERMITACQUIRE", "permit", 4, HOLD, "COST", 3)[4]
    for version, value in [("v1", "first"), ("v2", "second")]:
        call("ML.CACHESET", "cached", version, value, "EXAT", DISTANT)
    call("ML.CACHESET", "served:stale", "v1", "old", "EXAT", DISTANT, "STALE", 1000)
    call("ML.CACHESET", "retired:key", "v1", "past", "EXAT", DISTANT)
    if has(client, "ml.cacheversionset"):
        call("ML.CACHEVERSIONSET", "retired", "v2")
    else:
        call("ML.CACHEVERSION", "retired", "SET", "v2")
    call("HSET", "hash", "tier", "gold")
    call("ML.FEATURESET", "row", "AT", 1_700_000_000_000, "FIELDS", 4,
         "whole", "-9007199254740993", "price", "84.5", "tier", "gold", "nothing", "nan")
    call("ML.FEATURESET", "row", "VIEW", "clicks", "AT", 1_700_000_000_001, "TYPE", "F32",
         "FIELDS", 1, "day", "0.25")
    floats = struct.pack("<4f", 1, 2, 3, 4)
    call("ML.FEATUREMSET", 2, "many:1", "many:2", floats, "TYPE", "F32", "FIELDS", 2, "a", "b")
    if has(client, "ml.featurepush"):
        call("ML.FEATUREPUSH", "row", "seen", "i1", "i2", "LAST", 20, "SEQ", 7)
        call("ML.FEATURETALLY", "row", "FIELDS", 1, "spend", "2.5", "SPAN", DAY, "TILE", DAY // 24,
             "SPAN", YEAR, "TILE", DAY, "SEQ", 7)
        vector = struct.pack("<3f", 1, 2, 3)
        call("ML.FEATURESET", "vector", "TYPE", "F32", "DIM", 3, "FIELDS", 1, "v", vector)
    return {"reserved": text(reserved), "permit": text(permit)}


def check(client, known):
    """Fails unless all that `write` wrote is there."""

    call = client.execute_command
    assert client.get("plain") == b"text"
    assert call("ML.CACHEGET", "cached", "v1") == b"first"
    assert call("ML.CACHEGET", "cached", "v2") == b"second"
    assert call("ML.CACHEGET", "cached", "v3") is None
    assert call("ML.CACHEGET", "served:stale", "v1") == b"old"
    assert client.expiretime("cached") == DISTANT
    assert client.hget("hash", "tier") == b"gold"
    fields = ["whole", "price", "tier", "nothing", "clicks:day", "none"]
    row = call("ML.FEATURES", "row", *fields)
    assert row == [b"-9007199254740993", b"84.5", b"gold", b"nan", b"0.25", None]
    assert call("ML.FEATURES", "many:1", "a", "b") == [b"1.0", b"2.0"]
    assert call("ML.FEATURES", "many:2", "b", "a") == [b"4.0", b"3.0"]
    if client.exists("vector"):
        events = call("ML.FEATURES", "row", "seen[2]", f"sum(spend,{YEAR})")
        assert events == [[b"i2", b"i1"], b"2.5"]
        assert call("ML.FEATURES", "vector", "v[3]") == [struct.pack("<3f", 1, 2, 3)]
        again = ["ML.FEATUREPUSH", "row", "seen", "i3", "LAST", 20, "SEQ", 7]
        assert call(*again) == 0, "what was seen is known to have been"
    # An older event changes nothing, so the time of the view is known too.
    older = ["ML.FEATURESET", "row", "AT", 1_699_999_999_999, "FIELDS", 1, "tier", "lead"]
    assert call(*older) == 0
    assert call("ML.FEATURES", "row", "tier") == [b"gold"]

    def left(key, *more):
        return call("ML.RATELIMIT", key, 10, YEAR, *more, "PEEK")[2]

    assert left("limit:fixed") == 7
    assert left("limit:two", 7, YEAR // 2) == 4
    assert left("limit:sliding", "ALGORITHM", "SLIDING") == 6
    assert 5 <= left("limit:bucket", "ALGORITHM", "GCRA") <= 10
    assert left("limit:reserved") == 4
    if has(client, "ml.settle"):
        assert call("ML.SETTLE", 1, "limit:reserved", known["reserved"], "ACTUAL", 1) == [1]
        assert call("ML.SETTLE", 1, "permit", known["permit"]) == [1]
    else:
        assert call("ML.RATESETTLE", "limit:reserved", known["reserved"], 1) == 1
        assert call("ML.PERMITRELEASE", "permit", known["permit"]) == 1
    assert left("limit:reserved") == 9
    assert client.exists("permit") == 0


def text(answer):
    return answer.decode() if isinstance(answer, bytes) else answer


def dumps(client):
    """DUMP and expiry of each key, those of the module first."""
    return {
        text(key): [base64.b64encode(client.dump(key)).decode(), client.pexpiretime(key)]
        for key in sorted(client.scan_iter())
    }


def restore(client, dumped):
    for key, (payload, expires) in dumped.items():
        client.restore(key, max(expires, 0), base64.b64decode(payload), absttl=expires > 0)


class Server:
    """A server with a library and a directory, asked over a socket."""

    def __init__(self, module, directory, *options):
        socket = directory / "socket"
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(directory)]
        command += ["--save", "", "--rdbcompression", "no", "--loadmodule", str(module), *options]
        with open(directory / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.log = directory / "log"
        self.client = redis.Redis(unix_socket_path=str(socket), protocol=2)

    def ready(self):
        """Whether it answers; if it has ended instead, no."""
        while self.process.poll() is None:
            try:
                return self.client.ping()
            except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
                time.sleep(0.02)
        return False

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=30)
