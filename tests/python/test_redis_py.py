"""The commands as a redis-py user meets them, by both protocols."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

COMMANDS = ["ML.RATELIMIT", "ML.ADMIT", "ML.SETTLE", "ML.RENEW", "ML.LIMITINFO",
            "ML.CACHESET", "ML.CACHEGET", "ML.CACHEMGET", "ML.CACHEMSET", "ML.CACHEDROP",
            "ML.CACHEFETCH", "ML.CACHEMFETCH", "ML.CACHERENEW", "ML.CACHERELEASE",
            "ML.CACHEVERSION", "ML.CACHEVERSIONSET", "ML.CACHEINFO", "ML.STATS", "ML.FEATURES"]


# --- reply shapes ---------------------------------------------------------------


def test_ratelimit_answers_five_integers(client):
    reply = client.execute_command("ML.RATELIMIT", "user:1", 2, 60)
    assert [type(value) for value in reply] == [int] * 5
    granted, limit, remaining, retry_after, reset_after = reply
    assert (granted, limit, remaining, retry_after) == (1, 2, 1, 0)
    assert 0 < reset_after <= 60_000
    assert client.execute_command("ML.RATELIMIT", "user:1", 2, 60)[:4] == [1, 2, 0, 0]
    granted, limit, remaining, retry_after, reset_after = client.execute_command(
        "ML.RATELIMIT", "user:1", 2, 60
    )
    assert (granted, limit, remaining) == (0, 2, 0)
    assert 0 < retry_after <= reset_after <= 60_000


def test_ratelimit_takes_its_options_in_any_case_and_order(client):
    call = client.execute_command
    assert call("ML.RATELIMIT", "k", 10, 60, "COST", 4, "ALGORITHM", "FIXED")[:3] == [4, 10, 6]
    assert call("ml.ratelimit", "k", 10, 60, "algorithm", "fixed", "peek", "cost", 6)[:3] == [6, 10, 6]
    assert call("ML.RATELIMIT", "k", 10, 60, "PEEK", "COST", 7)[:3] == [0, 10, 6]
    assert call("ML.RATELIMIT", "k", 10, 60, "COST", 11)[3] == -1
    assert call("ML.RATELIMIT", "none", 10, 60, "PEEK") == [1, 10, 10, 0, 0]
    assert client.exists("none") == 0


def test_ratelimit_lets_the_key_expire_with_the_window(client):
    assert client.execute_command("ML.RATELIMIT", "short", 1, "2.75")[0] == 1
    denied = client.execute_command("ML.RATELIMIT", "short", 1, 2.75)
    assert denied[0] == 0
    time.sleep(denied[3] / 1000)
    assert client.execute_command("ML.RATELIMIT", "short", 1, "2.75")[0] == 1
    # The key goes at the first whole millisecond after the window.
    assert 0 < client.pttl("short") <= 2751


def as_map(reply):
    """A map by RESP3 is a flat array of pairs by RESP2."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2]))


def test_cachefetch_has_one_caller_compute(client):
    fetch = ("ML.CACHEFETCH", "pred:1", "v1", "LEASE", 5000)
    status, value, token, lease_ms = client.execute_command(*fetch)
    assert (status, value, lease_ms) == (b"LEASE", None, 5000)
    assert len(token) == 32
    status, value, other, left_ms = client.execute_command(*fetch)
    assert (status, value, other) == (b"BUSY", None, None)
    assert 0 < left_ms <= 5000
    assert client.execute_command("ML.CACHESET", "pred:1", "v1", "0.5", "TOKEN", "another's") is None
    call = ("ML.CACHESET", "pred:1", "v1", "0.5", "EX", 60, "TOKEN", token, "JSON")
    assert client.execute_command(*call) in (b"OK", "OK", True)
    assert client.execute_command(*call) in (b"OK", "OK", True), "said again, it is answered again"
    status, value, token, ttl_ms = client.execute_command(*fetch, "EARLY", "1.5")
    assert (status, value, token) == (b"HIT", b"0.5", None)
    assert 0 < ttl_ms <= 60_000


@pytest.mark.parametrize(
    "end, answer",
    [
        (["ML.CACHESET", "pred:1", "v1", "x", "TOKEN", "{token}"], [b"HIT", b"x"]),
        (["ML.CACHERELEASE", "pred:1", "{token}"], [b"LEASE", None]),
        (["ML.CACHERELEASE", "pred:1", "{token}", "BACKOFF", 5000], [b"BUSY", None]),
        (["ML.CACHEVERSIONSET", "pred", "v2"], [b"RETIRED", None]),
    ],
    ids=["set", "released", "backoff", "retired"],
)
def test_who_waits_is_answered_the_moment_the_lease_ends(client, port, end, answer):
    fetch = ("ML.CACHEFETCH", "pred:1", "v1", "LEASE", 60_000)
    token = client.execute_command(*fetch)[2]
    # A client that waits must have more patience than WAIT.
    patient = redis.Redis(port=port, socket_timeout=90)
    try:
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(patient.execute_command, *fetch, "WAIT", 60_000)
            while as_map(client.execute_command("ML.CACHEINFO", "pred:1"))[b"waiters"] == 0:
                time.sleep(0.001)
            client.execute_command(*[token if word == "{token}" else word for word in end])
            assert waiting.result(timeout=30)[:2] == answer
    finally:
        client.execute_command("ML.CACHEVERSIONSET", "pred", "CLEAR")


def test_a_wait_that_is_over_answers_busy(client):
    fetch = ("ML.CACHEFETCH", "pred:1", "v1", "LEASE", 60_000)
    client.execute_command(*fetch)
    start = time.monotonic()
    assert client.execute_command(*fetch, "WAIT", 50)[:3] == [b"BUSY", None, None]
    assert time.monotonic() - start >= 0.05


def test_a_stale_answer_is_served_while_one_computes(client):
    call = client.execute_command
    fetch = ("ML.CACHEFETCH", "pred:1", "v1", "LEASE", 60_000, "WAIT", 60_000)
    call("ML.CACHESET", "pred:1", "v1", "old", "EX", 60, "STALE", 60_000)
    assert call("ML.CACHEDROP", "pred:1", "STALE") == 1
    assert call("ML.CACHEGET", "pred:1", "v1") is None
    status, value, token, _ = call(*fetch)
    assert (status, value) == (b"LEASE", b"old")
    status, value, none, stale_ms = call(*fetch)
    assert (status, value, none) == (b"STALE", b"old", None)
    assert 0 < stale_ms <= 60_000
    call("ML.CACHESET", "pred:1", "v1", "new", "TOKEN", token)
    assert call(*fetch)[:2] == [b"HIT", b"new"]


def test_what_was_read_before_an_invalidation_cannot_be_set_after_it(client):
    call = client.execute_command
    call("ML.CACHESET", "pred:1", "v1", "old", "EX", 60)
    token = call("ML.CACHEFETCH", "pred:1", "v2", "LEASE", 60_000)[2]
    assert call("ML.CACHEDROP", "pred:1") == 1
    assert call("ML.CACHESET", "pred:1", "v2", "late", "TOKEN", token) is None
    assert client.exists("pred:1") == 0


def test_the_cache_takes_many_keys_at_once(client):
    call = client.execute_command
    assert call("ML.CACHEMSET", 2, "a", 1, "b", 2, "v1", "EX", 60) == [b"OK", b"OK"]
    assert call("ML.CACHEMGET", 4, "b", "none", "a", "b", "v1") == [b"2", None, b"1", b"2"]
    rows = call("ML.CACHEMFETCH", 3, "a", "none", "none", "v1", "LEASE", 5000)
    assert [row[0] for row in rows] == [b"HIT", b"LEASE", b"BUSY"]
    assert call("ML.CACHERELEASE", "none", rows[1][2], "BACKOFF", 1) == 1
    assert call("ML.CACHERELEASE", "none", rows[1][2]) == 0
    assert call("ML.CACHEDROP", "a", "VERSION", "v2") == 0
    assert call("ML.CACHEDROP", "a") == 1
    assert client.exists("a") == 0


def test_one_command_retires_a_model(client):
    call = client.execute_command
    call("ML.CACHESET", "pred:1", "v1", "old")
    try:
        assert call("ML.CACHEVERSIONSET", "pred", "v2") in (b"OK", "OK", True)
        assert call("ML.CACHEVERSION", "pred") == [b"v2"]
        assert call("ML.CACHEGET", "pred:1", "v1") is None
        assert call("ML.CACHESET", "pred:1", "v1", "late") is None
        assert call("ML.CACHEFETCH", "pred:1", "v1", "LEASE", 5000) == [b"RETIRED", None, None, 0]
        def stats(*words):
            sections = as_map(call("ML.STATS", "CACHE", "NAMESPACE", "pred", *words))
            return as_map(as_map(sections[b"cache"])[b"pred"])
        versions = as_map(as_map(stats()[b"versions"])[b"pred"])
        assert list(versions) == [b"v2"] and as_map(versions[b"v2"])[b"hits"] == 0
        assert stats("RESET")[b"refused_sets"] >= 1
        assert stats()[b"refused_sets"] == 0
        assert b"cache" in as_map(call("ML.STATS"))
    finally:
        assert call("ML.CACHEVERSIONSET", "pred", "CLEAR") in (b"OK", "OK", True)
        assert call("ML.CACHEVERSION", "pred") == []
    assert call("ML.CACHEGET", "pred:1", "v1") == b"old"


def test_cacheinfo_tells_what_a_key_holds(client):
    assert client.execute_command("ML.CACHEINFO", "pred:1") is None
    client.execute_command("ML.CACHESET", "pred:1", "v1", "abc", "PX", 60_000, "STALE", 5000)
    info = as_map(client.execute_command("ML.CACHEINFO", "pred:1"))
    assert (info[b"lease_ms"], info[b"waiters"]) == (0, 0)
    [version] = map(as_map, info[b"versions"])
    assert (version[b"version"], version[b"bytes"], version[b"stale_ms"]) == (b"v1", 3, 5000)
    assert 0 < version[b"ttl_ms"] <= 60_000
    assert version[b"age_ms"] >= 0 == version[b"cost_ms"]


def test_admit_answers_a_row_for_each_key_and_which_binds(client):
    keys = ["{acme}:rpm", "{acme}:tpm", "{acme}:gpu"]
    call = ("ML.ADMIT", 3, *keys, "LIMIT", 9, 60, "LIMIT", 1000, 60, "COST", 400, "PERMIT", 1)
    assert client.execute_command(*call, "PEEK")[:4] == [1, None, 0, None]
    admitted, hold, *waits, rows = client.execute_command(*call, "HOLD", 30_000)
    assert (admitted, waits) == (1, [0, None])
    assert isinstance(hold, bytes) and len(hold) == 32
    assert [row[:4] for row in rows] == [[1, 9, 8, 0], [400, 1000, 600, 0], [1, 1, 0, 0]]
    admitted, none, retry_after_ms, binding, rows = client.execute_command(*call, "HOLD", 30_000)
    assert (admitted, none, binding) == (0, None, 2)
    assert 0 < retry_after_ms == rows[2][3] <= 30_000
    assert [row[:3] for row in rows] == [[0, 9, 8], [0, 1000, 600], [0, 1, 0]]
    actual = ("ACTUAL", "-", 150, "-")
    assert client.execute_command("ML.SETTLE", 3, *keys, hold, *actual) == [1, 1, 1]
    assert client.execute_command("ML.SETTLE", 3, *keys, hold, *actual) == [0, 0, 0]
    rows = client.execute_command(*call, "PEEK")[4]
    assert [row[2] for row in rows] == [8, 850, 1]


def test_a_call_with_an_id_of_its_own_may_be_repeated(client):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    call = ("ML.RATELIMIT", "tokens:1", 1000, 60, "COST", 400, "HOLD", 30_000, "ID", trace)
    for _ in range(2):
        reply = client.execute_command(*call)
        assert reply[:4] == [400, 1000, 600, 0] and reply[5] == trace.encode()
    assert client.execute_command("ML.RENEW", 1, "tokens:1", trace, 90_000) == [1]
    [hold] = map(as_map, as_map(client.execute_command("ML.LIMITINFO", "tokens:1"))[b"holds"])
    assert (hold[b"id"], hold[b"cost"]) == (trace[:8].encode(), 400)
    assert 30_000 < hold[b"ttl_ms"] <= 90_000
    assert client.execute_command("ML.SETTLE", 1, "tokens:1", trace, "ACTUAL", 250) == [1]
    assert client.execute_command("ML.RATELIMIT", "tokens:1", 1000, 60, "PEEK")[2] == 750
    assert client.execute_command("ML.RATELIMIT", "tokens:1", 0, 60, "HOLD", 9)[5] is None


def test_limitinfo_is_a_map(client):
    assert client.execute_command("ML.LIMITINFO", "k") is None
    client.execute_command("ML.RATELIMIT", "k", 60, 60, "ALGORITHM", "GCRA", "BURST", 90, "COST", 30)
    info = as_map(client.execute_command("ML.LIMITINFO", "k"))
    assert list(info) == [b"algorithm", b"windows", b"holds", b"waiters"]
    assert (info[b"algorithm"], info[b"holds"]) == (b"GCRA", [])
    [window] = map(as_map, info[b"windows"])
    assert 0 < window.pop(b"reset_after_ms") <= 30_000
    used, remaining = window.pop(b"used"), window.pop(b"remaining")
    assert used + remaining == 90 and 1 <= used <= 30
    assert window == {b"limit": 60, b"burst": 90, b"window_ms": 60_000}


def test_cacheset_answers_ok_and_cacheget_the_same_bytes(client):
    value = b'{"p": 0.5}\x00\xff\r\n'
    assert client.execute_command("ML.CACHESET", b"pred:\x00\xff", b"v\x001", value) == b"OK"
    assert client.execute_command("ML.CACHEGET", b"pred:\x00\xff", b"v\x001") == value
    assert client.execute_command("ML.CACHEGET", b"pred:\x00\xff", b"v\x002") is None
    assert client.execute_command("ML.CACHEGET", "pred:other", b"v\x001") is None
    assert 3_590_000 < client.pttl(b"pred:\x00\xff") <= 3_600_000


@pytest.mark.parametrize("option", ["EX", "PX", "EXAT", "PXAT"])
def test_cacheset_takes_every_kind_of_expiry(client, option):
    unit = 1000 if option.startswith("PX") else 1
    since = time.time() if option.endswith("AT") else 0
    client.execute_command("ML.CACHESET", "pred:a", "v1", "x", option, int((since + 100) * unit))
    assert 98_000 < client.pttl("pred:a") <= 100_000


def test_cacheget_never_reads_another_version(client):
    for version in ["v1", "v2"]:
        client.execute_command("ML.CACHESET", "pred:a", version, f"from {version}")
    assert client.execute_command("ML.CACHEGET", "pred:a", "v1") == b"from v1"
    assert client.execute_command("ML.CACHEGET", "pred:a", "v2") == b"from v2"
    assert client.execute_command("ML.CACHEGET", "pred:a", "v3") is None
    client.execute_command("ML.CACHESET", "pred:a", "v3", "from v3")
    assert client.execute_command("ML.CACHEGET", "pred:a", "v1") is None
    assert client.execute_command("ML.CACHEGET", "pred:a", "v2") == b"from v2"
    assert client.execute_command("ML.CACHEGET", "pred:a", "v3") == b"from v3"


def test_features_answers_in_the_order_asked_for(client):
    client.hset("user:123", mapping={"avg_order": "84.50", "n_sessions": 12, "tier": "gold"})
    fields = ["tier", "country", "avg_order", "tier", "n_sessions"]
    values = [b"gold", None, b"84.50", b"gold", b"12"]
    assert client.execute_command("ML.FEATURES", "user:123", *fields) == values
    assert client.execute_command("ML.FEATURES", "user:404", "tier", "tier") == [None, None]


def test_decoded_responses(client, port):
    decoded = redis.Redis(port=port, decode_responses=True)
    decoded.hset("user:1", "tier", "gold")
    assert decoded.execute_command("ML.FEATURES", "user:1", "tier", "none") == ["gold", None]
    assert decoded.execute_command("ML.CACHESET", "pred:a", "v1", "0.5") == "OK"
    assert decoded.execute_command("ML.CACHEGET", "pred:a", "v1") == "0.5"
    assert decoded.execute_command("ML.CACHEMGET", 2, "pred:a", "pred:b", "v1") == ["0.5", None]
    hit = decoded.execute_command("ML.CACHEFETCH", "pred:a", "v1", "LEASE", 5000)
    assert hit[:3] == ["HIT", "0.5", None]
    assert decoded.execute_command("ML.RATELIMIT", "k", 1, 60)[:4] == [1, 1, 0, 0]


# --- errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "command, message",
    [
        ("ML.RATELIMIT k", "wrong number of arguments"),
        ("ML.RATELIMIT k 1", "wrong number of arguments"),
        ("ML.CACHESET k v1", "wrong number of arguments"),
        ("ML.CACHEGET k", "wrong number of arguments"),
        ("ML.CACHEGET k v1 v2", "unknown option 'v2'"),
        ("ML.FEATURES k", "wrong number of arguments"),
        ("ML.RATELIMIT k -1 60", "limit"),
        ("ML.RATELIMIT k 1.5 60", "limit"),
        ("ML.RATELIMIT k 9007199254740993 60", "limit"),
        ("ML.RATELIMIT k 1 0", "window"),
        ("ML.RATELIMIT k 1 -60", "window"),
        ("ML.RATELIMIT k 1 1e3", "window"),
        ("ML.RATELIMIT k 1 60 COST -1", "COST"),
        ("ML.RATELIMIT k 1 60 COST x", "COST"),
        ("ML.RATELIMIT k 1 60 COST", "COST"),
        ("ML.RATELIMIT k 1 60 COST 1 COST 1", "COST"),
        ("ML.RATELIMIT k 1 60 ALGORITHM LEAKY", "ALGORITHM"),
        ("ML.RATELIMIT k 1 60 FOO", "unknown option 'FOO'"),
        ("ML.RATELIMIT k 1 60 2 60", "window"),
        ("ML.RATELIMIT k 1 60 BURST 5", "BURST"),
        ("ML.RATELIMIT k 0 60 FORCE", "limit"),
        ("ML.RATELIMIT k 1 60 HOLD 9 PEEK", "'HOLD'"),
        ("ML.RATELIMIT k 1 60 ID 4bf92f3577b34da6a3ce929d0e0e4736", "HOLD"),
        ("ML.RATELIMIT k 1 60 HOLD 9 ID trace", "ID"),
        ("ML.ADMIT 2 k k LIMIT 1 60 LIMIT 1 60", "key"),
        ("ML.ADMIT 9 k l LIMIT 1 60", "numkeys"),
        ("ML.ADMIT 2 k l LIMIT 1 60", "item"),
        ("ML.ADMIT 1 k PERMIT 4", "HOLD"),
        ("ML.ADMIT 1 k PERMIT 4 HOLD 9 FORCE", "FORCE"),
        ("ML.SETTLE 1 k id ACTUAL -1", "ACTUAL"),
        ("ML.SETTLE 1 k id ACTUAL 1 2", "ACTUAL"),
        ("ML.RENEW 1 k id 0", "milliseconds"),
        ("ML.CACHESET k v1 x EX 0", "EX"),
        ("ML.CACHESET k v1 x EX -5", "EX"),
        ("ML.CACHESET k v1 x PX 1.5", "PX"),
        ("ML.CACHESET k v1 x EX 9223372036854775807", "EX"),
        ("ML.CACHESET k v1 x EX 1 PX 1", "PX"),
        ("ML.CACHESET k v1 x FOO", "unknown option 'FOO'"),
        ("ML.CACHESET k v1 NaN JSON", "JSON"),
        ("ML.CACHESET k v1 x JITTER 101", "JITTER"),
        ("ML.CACHESET k v1 x STALE -1", "STALE"),
        ("ML.CACHEMGET 1 k", "wrong number of arguments"),
        ("ML.CACHEMGET 2 k v1", "wrong number of arguments"),
        ("ML.CACHEMSET 1 k x v1 EX 0", "EX"),
        ("ML.CACHEMSET 3 k x l v1", "numkeys"),
        ("ML.CACHEDROP k VERSION", "VERSION"),
        ("ML.CACHEFETCH k v1 WAIT 5", "LEASE"),
        ("ML.CACHEFETCH k v1 LEASE 0", "LEASE"),
        ("ML.CACHEFETCH k v1 LEASE 5 WAIT 0", "WAIT"),
        ("ML.CACHEFETCH k v1 LEASE 5 EARLY 0", "EARLY"),
        ("ML.CACHEMFETCH 2 k l v1 WAIT 5", "WAIT"),
        ("ML.CACHERELEASE k token BACKOFF x", "BACKOFF"),
        ("ML.CACHEVERSIONSET pred CLEAR v1", "CLEAR"),
        ("ML.CACHEVERSIONSET pred", "wrong number of arguments"),
        ("ML.STATS FOO", "unknown option 'FOO'"),
    ],
)
def test_a_bad_call_names_what_is_wrong_and_writes_nothing(client, command, message):
    with pytest.raises(redis.ResponseError) as caught:
        client.execute_command(*command.split(" "))
    assert message in str(caught.value)
    assert client.dbsize() == 0


@pytest.mark.parametrize("version", [b"", b"v" * 256])
def test_a_version_has_1_to_255_bytes(client, version):
    for call in [("ML.CACHESET", "k", version, "x"), ("ML.CACHEGET", "k", version)]:
        with pytest.raises(redis.ResponseError, match="version"):
            client.execute_command(*call)
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "command",
    ["ML.RATELIMIT l 1 60", "ML.RATELIMIT l 1 60 PEEK", "ML.CACHESET l v1 x", "ML.CACHEGET l v1",
     "ML.CACHEMSET 2 k x l y v1 EX 60", "ML.CACHEDROP l", "ML.CACHEFETCH l v1 LEASE 5",
     "ML.CACHEMFETCH 2 k l v1 LEASE 5", "ML.CACHERELEASE l token", "ML.CACHEINFO l",
     "ML.FEATURES l f"],
)
def test_a_key_of_another_type_is_refused(client, command):
    client.rpush("l", "a")
    with pytest.raises(redis.ResponseError, match="^WRONGTYPE "):
        client.execute_command(*command.split(" "))
    assert client.lrange("l", 0, -1) == [b"a"]
    assert client.dbsize() == 1


def test_cachemget_answers_nil_for_a_key_of_another_type(client):
    client.rpush("l", "a")
    client.execute_command("ML.CACHESET", "pred:a", "v1", "x")
    assert client.execute_command("ML.CACHEMGET", 2, "l", "pred:a", "v1") == [None, b"x"]


# --- pipelines and transactions -------------------------------------------------


@pytest.mark.parametrize("transaction", [False, True])
def test_pipelines(client, transaction):
    with client.pipeline(transaction=transaction) as pipe:
        pipe.execute_command("ML.CACHESET", "pred:a", "v1", "0.5")
        pipe.execute_command("ML.CACHEGET", "pred:a", "v1")
        pipe.hset("user:1", "tier", "gold")
        pipe.execute_command("ML.FEATURES", "user:1", "tier", "none")
        for _ in range(3):
            pipe.execute_command("ML.RATELIMIT", "rate:1", 2, 60)
        pipe.execute_command("ML.RATELIMIT", "rate:1", 2, 60, "FOO")
        replies = pipe.execute(raise_on_error=False)
    assert replies[:4] == [b"OK", b"0.5", 1, [b"gold", None]]
    assert [reply[:3] for reply in replies[4:7]] == [[1, 2, 1], [1, 2, 0], [0, 2, 0]]
    assert isinstance(replies[7], redis.ResponseError)


def test_in_a_transaction_nobody_waits(client):
    with client.pipeline(transaction=True) as pipe:
        for _ in range(2):
            pipe.execute_command("ML.CACHEFETCH", "pred:1", "v1", "LEASE", 60_000, "WAIT", 60_000)
        assert [reply[0] for reply in pipe.execute()] == [b"LEASE", b"BUSY"]


def test_a_script_can_call_them(client):
    script = "return redis.call('ML.RATELIMIT', KEYS[1], ARGV[1], ARGV[2])"
    assert client.eval(script, 1, "rate:1", 1, 60)[:4] == [1, 1, 0, 0]
    assert client.eval(script, 1, "rate:1", 1, 60)[:3] == [0, 1, 0]


def test_watch_sees_a_charge_but_not_a_denial(client, port):
    other = redis.Redis(port=port)
    other.execute_command("ML.RATELIMIT", "rate:1", 2, 60)

    def transaction(change):
        with client.pipeline() as pipe:
            pipe.watch("rate:1")
            change()
            pipe.multi()
            pipe.ping()
            return pipe.execute()

    with pytest.raises(redis.WatchError):
        transaction(lambda: other.execute_command("ML.RATELIMIT", "rate:1", 2, 60))
    assert transaction(lambda: other.execute_command("ML.RATELIMIT", "rate:1", 2, 60)) == [True]


# --- what the server tells of the commands ----------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_command_docs(client, name):
    docs = as_map(client.execute_command("COMMAND DOCS", name))
    [doc] = [as_map(value) for value in docs.values()]
    assert doc[b"summary"] and doc[b"complexity"] and doc[b"since"] == b"0.1.0"
    assert doc[b"group"] == b"module"
    arguments = [as_map(argument) for argument in doc[b"arguments"]]
    for argument in arguments:
        assert (argument[b"name"] == b"key") == (argument[b"type"] == b"key")
    names = [argument[b"name"].decode() for argument in arguments]
    assert names == {
        "ML.RATELIMIT": ["key", "limits", "algorithm", "burst", "cost", "mode", "hold"],
        "ML.ADMIT": ["numkeys", "key", "item", "hold", "mode", "wait"],
        "ML.SETTLE": ["numkeys", "key", "id", "actual"],
        "ML.RENEW": ["numkeys", "key", "id", "milliseconds"],
        "ML.LIMITINFO": ["key"],
        "ML.CACHESET": ["key", "version", "value", "expiration", "milliseconds", "percent",
                        "token", "json"],
        "ML.CACHEFETCH": ["key", "version", "milliseconds", "milliseconds", "beta", "token"],
        "ML.CACHEGET": ["key", "version", "stale"],
        "ML.CACHEMGET": ["numkeys", "key", "version"],
        "ML.CACHEMSET": ["numkeys", "data", "version", "expiration", "milliseconds", "percent",
                         "token"],
        "ML.CACHEMFETCH": ["numkeys", "key", "version", "milliseconds", "token"],
        "ML.CACHERENEW": ["key", "token", "milliseconds"],
        "ML.CACHEVERSION": ["namespace"],
        "ML.CACHEVERSIONSET": ["namespace", "change"],
        "ML.STATS": ["section", "namespace", "reset"],
        "ML.CACHEDROP": ["key", "version", "stale"],
        "ML.CACHERELEASE": ["key", "token", "milliseconds"],
        "ML.CACHEINFO": ["key"],
        "ML.FEATURES": ["key", "field"],
    }[name]


@pytest.mark.parametrize(
    "command",
    [
        "ML.RATELIMIT the-key 1 60 COST 1",
        "ML.ADMIT 1 the-key LIMIT 1 60 COST 1",
        "ML.SETTLE 1 the-key id ACTUAL 1",
        "ML.RENEW 1 the-key id 1",
        "ML.LIMITINFO the-key",
        "ML.CACHESET the-key v1 x EX 60",
        "ML.CACHEGET the-key v1",
        "ML.CACHEMGET 1 the-key v1",
        "ML.CACHEMSET 1 the-key x v1 EX 60",
        "ML.CACHEDROP the-key VERSION v1",
        "ML.CACHEFETCH the-key v1 LEASE 5 WAIT 5",
        "ML.CACHEMFETCH 1 the-key v1 LEASE 5",
        "ML.CACHERELEASE the-key token",
        "ML.CACHEINFO the-key",
        "ML.FEATURES the-key a b c",
    ],
)
def test_command_getkeys(client, command):
    assert client.execute_command("COMMAND GETKEYS", *command.split(" ")) in ([b"the-key"], ["the-key"])


def test_acl_holds_the_commands_to_the_users_keys(client, port):
    client.acl_setuser("model", enabled=True, nopass=True, keys=["mine:*"], commands=["+@all"])
    model = redis.Redis(port=port, username="model", password="any")
    for command in [
        "ML.RATELIMIT {} 1 60",
        "ML.ADMIT 1 {} LIMIT 1 60",
        "ML.SETTLE 1 {} id",
        "ML.RENEW 1 {} id 1",
        "ML.LIMITINFO {}",
        "ML.CACHESET {} v1 x",
        "ML.CACHEGET {} v1",
        "ML.CACHEMGET 1 {} v1",
        "ML.CACHEMSET 1 {} x v1 EX 60",
        "ML.CACHEDROP {}",
        "ML.CACHEFETCH {} v1 LEASE 5",
        "ML.CACHEMFETCH 1 {} v1 LEASE 5",
        "ML.CACHERELEASE {} token",
        "ML.CACHEINFO {}",
        "ML.FEATURES {} a",
    ]:
        with pytest.raises(redis.exceptions.NoPermissionError):
            model.execute_command(*command.format("theirs:1").split(" "))
        key = "mine:" + command.split(" ")[0][:7]
        model.execute_command(*command.format(key).split(" "))
    client.acl_deluser("model")
