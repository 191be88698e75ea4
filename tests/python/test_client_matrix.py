"""What the client of the Python package answers, on all servers, by both libraries and both
protocols, in threads and by asyncio."""

import asyncio
import inspect
import math
import time
from datetime import datetime, timedelta, timezone

import numpy
import pytest
from conftest import servers

import mlserve
import mlserve.aio
from mlserve import FieldStatus, Limit, Permit, Status, Until


class Caller:
    """A client of either kind, whose calls are made alike."""

    def __init__(self, url, library, protocol, asynchronous, timeout=5):
        kind = mlserve.aio.Client if asynchronous else mlserve.Client
        self.loop = asyncio.new_event_loop() if asynchronous else None
        self.client = kind.from_url(url, library=library, protocol=protocol, timeout=timeout)
        self.protocol = protocol

    def __getattr__(self, name):
        found = getattr(self.client, name)
        return lambda *args, **options: self.answer(found(*args, **options))

    def answer(self, given):
        return self.loop.run_until_complete(given) if inspect.isawaitable(given) else given

    def close(self):
        if self.loop is None:
            self.client.close()
        else:
            self.loop.run_until_complete(self.client.aclose())
            self.loop.close()


@pytest.fixture(params=list(servers()))
def any_url(request, running):
    server = running(request.param)
    with server.client() as client:
        client.flushall()
    return server.url


@pytest.fixture(params=["threads", "asyncio"])
def asynchronous(request):
    return request.param == "asyncio"


@pytest.fixture(params=["redis", "valkey"])
def library(request):
    return request.param


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def ml(any_url, library, asynchronous, request):
    caller = Caller(any_url, library, request.param, asynchronous)
    yield caller
    caller.close()


def test_limits(ml):
    first = ml.ratelimit("user:1", 3, 60, 100, 86400.5, cost=2)
    assert first and first.granted == 2 and (first.limit, first.remaining) == (3, 1)
    assert first.retry_after == 0 and 59 < first.reset_after <= 60 and first.id is None
    denied = ml.ratelimit("user:1", 3, timedelta(minutes=1), cost=2)
    assert not denied and denied.granted == 0 and 30 < denied.retry_after <= 60
    assert ml.ratelimit("user:1", 3, 60, cost=4).retry_after == math.inf
    assert ml.ratelimit("user:1", 3, 60, cost=2, partial=True).granted == 1
    assert ml.ratelimit("user:1", 3, 60, cost=2, force=True).remaining == -2
    assert ml.ratelimit("user:1", 3, 60, cost=0)
    assert ml.ratelimit("user:2", 5, "DAY", peek=True).remaining == 5
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert 3590 < ml.ratelimit("user:2", 5, Until(later)).reset_after < 3601
    held = ml.ratelimit("user:3", 10, 90.5, algorithm="GCRA", burst=20, cost=5, hold=60)
    info = ml.limitinfo("user:3")
    assert info.algorithm == "GCRA" and info.in_use is None and info.waiters == 0
    assert info.windows[0][:3] == (90.5, 10, 20)
    assert info.holds[0].id == held.id[:8] and 30 < info.holds[0].ttl <= 60
    assert ml.renew(["user:3"], held.id, 100) == [True]
    assert ml.settle(["user:3"], held.id, [3]) == [True]
    assert ml.settle(["user:3"], held.id) == [False]
    assert ml.limitinfo("nobody") is None
    moments = iter([later, later + timedelta(hours=1)])
    until = Until(lambda: next(moments))
    assert ml.ratelimit("user:4", 5, until).reset_after < 3601
    assert 7100 < ml.ratelimit("user:4", 5, until).reset_after < 7201
    assert ml.delete("user:1", "user:3", "nobody") == 2 and ml.delete(b"user:1") == 0
    assert ml.ratelimit("user:1", 3, 60).remaining == 2


def test_admission(ml):
    items = {b"{a}:rpm": Limit(60, 60), "{a}:gpu": Permit(2, cost=2)}
    admission = ml.admit(items, hold=60)
    assert admission and admission.binding is None and admission.retry_after == 0
    assert list(admission.rows) == [b"{a}:rpm", "{a}:gpu"]
    assert admission.rows["{a}:gpu"].remaining == 0
    denied = ml.admit(items, hold=60)
    assert not denied and denied.binding == "{a}:gpu" and 30 < denied.retry_after <= 60
    assert denied.id is None and denied.rows[b"{a}:rpm"].granted == 0
    assert not ml.admit(items, peek=True)
    assert not ml.admit(items, hold=60, wait=0.02, priority=3)
    assert ml.limitinfo("{a}:gpu").in_use == 2 and ml.limitinfo("{a}:gpu").windows == []
    assert ml.admit({"{a}:gpu": Permit(4), "{a}:rpm": Limit(60, 60)}, hold=60, id="0" * 32)
    assert ml.settle(list(items), admission.id, [0, None]) == [True, True]


def test_the_cache(ml):
    fetch = ml.cachefetch("pred:x", "v1", 5, early=1)
    assert fetch.status is Status.LEASE and fetch.value is None and 4 < fetch.lasts <= 5
    assert ml.cachefetch("pred:x", "v1", 5).status is Status.BUSY
    assert ml.cacherenew("pred:x", fetch.token, timedelta(seconds=9))
    assert ml.cacheset("pred:x", "v1", b"\xff\0", ttl=60, stale=5, jitter=1, token=fetch.token)
    hit = ml.cachefetch("pred:x", "v1", 5, wait=1)
    assert (hit.status, hit.value, hit.token) == (Status.HIT, b"\xff\0", None)
    assert ml.cacheget("pred:x", "v1") == b"\xff\0" and ml.cacheget("pred:x", "v2") is None
    info = ml.cacheinfo("pred:x")
    assert info.versions[0].version == b"v1" and info.versions[0].bytes == 2
    assert 55 < info.versions[0].ttl <= 60 and info.versions[0].stale == 5 and info.waiters == 0
    assert ml.cachedrop("pred:x", stale=True) == 1
    assert ml.cacheget("pred:x", "v1") is None
    assert ml.cacheget("pred:x", "v1", stale=True) == b"\xff\0"
    assert ml.cacheset("pred:y", "v1", 5, expires_at=datetime.now(timezone.utc) + timedelta(1))
    with pytest.raises(mlserve.ResponseError, match="JSON"):
        ml.cacheset("pred:y", "v1", "{", json=True)
    assert ml.cachemset({"pred:a": 1, b"pred:b": "two"}, "v1", ttl=9) == [True, True]
    assert ml.cachemget(["pred:b", "pred:none", "pred:a"], "v1") == [b"two", None, b"1"]
    both = ml.cachemfetch(["pred:a", "pred:new"], "v1", 5, token="f" * 32)
    assert [one.status for one in both] == [Status.HIT, Status.LEASE]
    assert ml.cacherelease("pred:new", both[1].token, backoff=0.01) is True
    assert ml.cacherelease("pred:new", both[1].token) is False
    assert ml.cacheversionset("pred", ["v2", "v3"]) is None
    try:
        assert sorted(ml.cacheversion("pred")) == [b"v2", b"v3"]
        assert ml.cachefetch("pred:a", "v1", 5).status is Status.RETIRED
        assert ml.cacheset("pred:a", "v1", 1) is False
        counts = ml.stats("cache", namespace="pred")["cache"][b"pred"]
        assert counts["hits"] >= 1 and set(counts["versions"][b"pred"]) == {b"v2", b"v3"}
    finally:
        ml.cacheversionset("pred", None)
    assert set(ml.stats(reset=True)) == {"limits", "cache", "features", "semantic"}


def test_the_semantic_cache(ml):
    question, like_it, other = [1.0] + [0.0] * 7, [1.0, 0.3] + [0.0] * 6, [0.0] * 7 + [1.0]
    first = ml.semfetch("sem", "v1", question, 0.99, 30)
    assert (first.status, first.entries, bool(first)) == ("LEASE", [], False)
    assert first.token is not None
    busy = ml.semfetch("sem", "v1", question, 0.99, 30, wait=0.001)
    assert (busy.status, busy.token) == ("BUSY", None)
    assert ml.semrenew("sem", first.token, 60)
    assert ml.seminfo("sem").leases == 1
    kept = ml.semset("sem", "v1", question, "a", prompt="why?", token=first.token)
    assert kept is not None
    assert ml.semset("sem", "v1", question, "b", token="0" * 32) is None
    hit = ml.semfetch("sem", "v1", question, 0.99, 30)
    assert (hit.status, bool(hit), hit.entries[0].id, hit.entries[0].value) == (
        "HIT", True, kept, b"a")
    assert 3500 < hit.lasts <= 3600
    judged = ml.semfetch("sem", "v1", like_it, 0.99, 30, maybe=0.9, top=2)
    assert (judged.status, judged.entries[0].id) == ("MAYBE", kept)
    assert 0.95 < judged.entries[0].similarity < 0.96
    assert ml.semalias("sem", "v1", like_it, kept, judged.token)
    assert ml.semget("sem", "v1", like_it, 0.99).status == "HIT"
    given_up = ml.semfetch("sem", "v1", other, 0.99, 30, digest="d", token="5" * 32)
    assert (given_up.status, given_up.token) == ("LEASE", "5" * 32)
    assert ml.semrelease("sem", "5" * 32, backoff=30)
    assert not ml.semrelease("sem", "5" * 32)
    assert 0 < ml.semfetch("sem", "v1", other, 0.99, 30).lasts <= 30
    assert ml.semdrop("sem", id=kept) == 1


def test_features(ml):
    at = time.time() - 5
    assert ml.featureset("item:1", {"price": 84.5, "name": "x"}, at=at, type={"price": "F32"})
    assert not ml.featureset("item:1", {"price": 1}, at=at - 1)
    assert ml.features_of("item:1", ["name", "none"]) == [b"x", None]
    price = 84.5 if ml.protocol == 3 else b"84.5"
    assert ml.featuregetall("item:1") == {b"price": price, b"name": b"x"}
    info = ml.featureinfo("item:1")
    assert info.views[0].fields == {b"price": "F32", b"name": "STRING"}
    assert info.views[0].ttl == math.inf and abs(info.views[0].at - at) < 0.002
    array = numpy.arange(4, dtype="f8").reshape(2, 2)
    times = numpy.array([at, at], "f8") * 1000
    keys = ["row:1", "row:2"]
    options = {"view": "v", "times": times.astype("datetime64[ms]"), "ttl": 60}
    assert ml.featuremset(keys, ["a", "b"], array, type="f8", **options) == [True, True]
    with pytest.raises(ValueError, match="values must be an array of 2 × 1"):
        ml.featuremset(keys, ["a"], array)
    assert ml.featureget(keys, ["v:b", "none"], default="?") == [
        [1.0 if ml.protocol == 3 else b"1.0", b"?"],
        [3.0 if ml.protocol == 3 else b"3.0", b"?"],
    ]
    (values, moments), nobody = ml.featureget_timed(["row:1", "nobody"], ["v:b", "none"])
    assert [float(values[0]), values[1]] == [1.0, None]
    assert moments == [int(times[0]) / 1000, None] and nobody == ([None, None], [None, None])
    assert ml.featurejson(keys, ["v:b"]) == b'[{"v:b":1.0},{"v:b":3.0}]'
    tensor = ml.featuretensor([*keys, "nobody"], ["v:a", "v:b"], "f8", with_times=True)
    assert numpy.array_equal(tensor.numpy()[:2], array) and numpy.isnan(tensor.numpy()[2]).all()
    assert tensor.statuses().tolist() == [[1, 1], [1, 1], [3, 3]]
    assert tensor.event_times()[0, 0] == numpy.datetime64(int(times[0]), "ms")
    assert numpy.isnat(tensor.event_times()[2, 0])
    assert ml.featuredel("row:1", fields=["v:a"]) == 1 and ml.featuredel("row:1", view="v") == 1


def test_vectors_sequences_and_windows(ml):
    embedding = numpy.arange(4, dtype="f4")
    # An array is a vector, whatever its byte order.
    assert ml.featureset("user:1", {"e": embedding.astype(">f4"), "tier": "gold"})
    assert ml.featureset("user:1", {"d": embedding.astype("f8")})
    assert ml.featureset("user:1", {"b": embedding.tobytes(), "n": 7}, type={"b": "F32[4]"})
    assert ml.featuremset(["user:2"], ["e"], embedding.reshape(1, 1, 4)) == [True]
    assert ml.featuremset(["user:3"], ["e"], embedding.tobytes(), dim=4) == [True]
    assert ml.featurepush("user:1", "viewed", [5, 6, 7], 2, seq=1) is True
    assert ml.featurepush("user:1", "viewed", [5, 6, 7], 2, seq=1) is False
    assert ml.featurepush("user:1", "words", [5, "x"], 2, type="STRING", view="v", at=1.7e9)
    spans = [(timedelta(hours=1), 60), (2_592_000, timedelta(days=1))]
    for amount in (1.5, 2):
        assert ml.featuretally("user:1", {"spend": amount, "clicks": 1}, spans, view="v")
    assert ml.featuretally("user:1", {"spend": 1}, spans, at=1.7e9) is False
    assert not ml.featuretally("user:1", {"clicks": 1}, [(0.5, 0.25)], at=1.7e9, seq=3)
    number = (lambda value: value) if ml.protocol == 3 else (lambda value: str(value).encode())
    asked = ["e[4]", "viewed", "viewed[3]", "v:words", "sum(v:spend,3600)", "count(v:spend,3600)"]
    assert ml.features_of("user:1", asked) == [
        embedding.tobytes(),
        [number(7), number(6)],
        [number(7), number(6), None],
        [b"x", b"5"],
        number(3.5),
        number(2),
    ]
    kinds = {name: kind for view in ml.featureinfo("user:1").views
             for name, kind in view.fields.items()}
    assert kinds[b"e"] == kinds[b"b"] == "F32[4]" and kinds[b"d"] == "F64[4]"
    assert kinds[b"viewed"] == "SEQUENCE[2]" and kinds[b"spend"].startswith("WINDOWS SPAN 3600")
    fields = ["n", "e[4]", "viewed[3]", "mean(v:spend,2592000)", "e[3]"]
    keys = ["user:1", "user:2", "nobody"]
    tensor = ml.featuretensor(keys, fields, "f8", with_times=True)
    assert tensor.shape == (3, 12) and tensor.numpy().shape == (3, 12)
    assert tensor.widths == [1, 4, 3, 1, 3]
    assert tensor.statuses().tolist() == [[1, 1, 1, 1, 5], [3, 1, 3, 3, 5], [3] * 5]
    assert tensor.event_times().shape == (3, 5)
    assert tensor.column("e[4]")[:2].tolist() == [[0, 1, 2, 3]] * 2
    assert tensor.column("viewed[3]")[0, :2].tolist() == [7, 6]
    assert tensor.column("mean(v:spend,2592000)")[0] == 1.75
    assert numpy.isnan(tensor.column("viewed[3]")[0, 2]) and tensor.column("n")[0] == 7
    with pytest.raises(KeyError):
        tensor.column("e")
    frame = tensor.dataframe()
    assert list(frame.columns[:6]) == ["n", "e[0]", "e[1]", "e[2]", "e[3]", "viewed[0]"]
    table = tensor.arrow()
    assert table.column("e[4]").to_pylist() == [[0, 1, 2, 3], [0, 1, 2, 3], None]
    assert table.column("n").to_pylist() == [7, None, None]
    with pytest.raises(mlserve.ResponseError, match="has no value of type I64"):
        ml.featuretensor(keys, ["e[3]"], "i8")


def test_fields_that_the_server_knows_by_a_name(ml):
    profile = mlserve.FieldList("profile", ["age", "score", "e[2]"])
    stored = mlserve.FieldList("stored", ["age", "score"])
    for fields in (profile, stored):
        ml.fieldlist(fields.name, fields)
    assert ml.fieldlists() == {b"profile": [b"age", b"score", b"e[2]"],
                               b"stored": [b"age", b"score"]}
    assert ml.featuremset(["user:1", "user:2"], stored, [[31.0, 0.5], [7.0, 1.5]]) == [True, True]
    assert ml.featureset("user:1", {"e": numpy.array([1, 2], dtype="f4")})
    for fields in (profile, list(profile)):
        tensor = ml.featuretensor(["user:1", "user:2"], fields)
        assert tensor.numpy()[0].tolist() == [31, 0.5, 1, 2]
        assert tensor.statuses().tolist() == [[1, 1, 1], [1, 1, 3]]
        assert tensor.column("score").tolist() == [0.5, 1.5]
        features = ml.client.features(fields)
        assert ml.answer(features(["user:2"])).numpy()[0, :2].tolist() == [7, 1.5]
    assert ml.featureget(["user:2"], stored) == ml.featureget(["user:2"], list(stored))
    assert ml.featuredel("user:2", fields=stored) == 2
    assert ml.fieldlist("stored") == [b"age", b"score"]
    for fields in (profile, stored):
        ml.fieldlist(fields.name, None)
    assert ml.fieldlists() == {} and ml.fieldlist("stored") is None
    with pytest.raises(mlserve.ResponseError, match="FIELDS names 'profile', which is no field list"):
        ml.featureget(["user:1"], profile)


def test_a_list_that_is_another_at_the_server_is_never_taken_for_its_own(ml):
    there = mlserve.FieldList("wl", ["score", "age"])
    here = mlserve.FieldList(b"wl", ["age", "score"])
    ml.fieldlist(there.name, there)
    ml.featureset("user:1", {"age": 31, "score": 0.5})
    pipeline = ml.client.pipeline()
    pipeline.featureget(["user:1"], here)
    other = pipeline.featureget(["user:1"], there)
    asked = [
        lambda: ml.featureget(["user:1"], here),
        lambda: ml.featuretensor(["user:1"], here),
        lambda: ml.featuremset(["user:1"], here, [[1.0, 2.0]]),
        lambda: ml.answer(pipeline.execute()),
    ]
    for ask in asked:
        with pytest.raises(ValueError, match="FieldList b'wl' has .* at the server"):
            ask()
    assert other.value == ml.featureget(["user:1"], ["score", "age"])
    # What the client itself tells the server is compared anew.
    ml.fieldlist(here.name, here)
    assert ml.featuretensor(["user:1"], here).numpy().tolist() == [[31, 0.5]]
    with pytest.raises(ValueError, match="at the server"):
        ml.featureget(["user:1"], there)
    # What others tell it later is seen by the size of the answers.
    ml.command("ML.FIELDLIST", "wl", "age")
    for ask in (*asked[:2], lambda: ml.featureget_timed(["user:1"], here)):
        with pytest.raises(ValueError, match="FieldList b'wl' is another at the server"):
            ask()


def test_a_list_is_asked_for_once_a_client(ml):
    profile = mlserve.FieldList("profile", ["age", "score"])
    ml.fieldlist(profile.name, profile)
    ml.command("CONFIG", "RESETSTAT")
    for _ in range(3):
        ml.featuretensor(["user:1"], profile)
    assert "cmdstat_ml.fieldlists:calls=1," in str(ml.command("INFO", "commandstats")).lower()


def test_features_that_are_packed_once(ml):
    ml.featuremset(["item:1", "item:2"], ["price", "stock"], [[1.5, 2], [3, 4]])
    features = ml.client.features(["price", "stock"], type="f4", default=-1)
    tensor = ml.answer(features([b"item:2", "item:1", "item:9"]))
    assert tensor.numpy().dtype == "<f4" and tensor.shape == (3, 2)
    assert tensor.numpy().tolist() == [[3, 4], [1.5, 2], [-1, -1]]
    assert not tensor.numpy().flags.owndata  # The answer itself, not a copy.
    frame = tensor.dataframe()
    assert frame.loc["item:1", "price"] == 1.5 and list(frame.columns) == ["price", "stock"]
    assert tensor.arrow().column("stock").to_pylist() == [4, 2, -1]
    absent = ml.answer(ml.client.features(["price"])(["item:1", "item:9"])).arrow()
    assert absent.column("price").to_pylist() == [1.5, None]
    assert features.fields == ["price", "stock"]


def test_a_pipeline_answers_in_order_and_each_call_by_itself(ml):
    pipeline = ml.client.pipeline()
    limit = pipeline.ratelimit("user:1", 5, 60)
    wrong = pipeline.cacheget("user:1", "v1")
    features = pipeline.featureget(["nobody"], ["price"])
    with pytest.raises(ValueError, match="not been executed"):
        limit.value  # noqa: B018
    with pytest.raises(ValueError, match="wait"):
        pipeline.cachefetch("k", "v", 1, wait=1)
    outcomes = ml.answer(pipeline.execute(raise_on_error=False))
    assert outcomes == [limit.value, outcomes[1], [[None]]] and limit.value.granted == 1
    assert features.value == [[None]] and len(pipeline) == 0
    with pytest.raises(mlserve.ResponseError) as raised:
        wrong.value  # noqa: B018
    assert raised.value.code == "WRONGTYPE" and raised.value.__cause__ is not None
    assert ml.answer(ml.client.pipeline().execute()) == []


def test_errors_say_what_the_server_said(ml):
    with pytest.raises(mlserve.ResponseError, match="^limit must be an integer") as raised:
        ml.ratelimit("user:1", -1, 60)
    assert raised.value.code == "ERR"
    ml.command("SET", "text", "x")
    with pytest.raises(mlserve.ResponseError) as raised:
        ml.cacheget("text", "v1")
    assert raised.value.code == "WRONGTYPE"
    assert ml.command("GET", "text", keys=["text"], again=True) == b"x"
    with pytest.raises(mlserve.ResponseError, match="unknown command 'NOPE'"):
        ml.command("NOPE")


def test_numbers_of_numpy_are_sent_as_what_they_are(ml):
    values = {"f4": numpy.float32(0.5), "f8": numpy.float64(84.5), "i8": numpy.int64(12),
              "0d": numpy.array(2.5), "enum": FieldStatus.TOO_OLD}
    assert ml.featureset("item:1", values)
    assert ml.features_of("item:1", list(values)) in (
        [0.5, 84.5, 12, 2.5, 4], [b"0.5", b"84.5", b"12", b"2.5", b"4"])
    given = {"default": numpy.float64(1.5)}
    assert ml.featureget(["none"], ["f8"], **given) == [[b"1.5"]]
    assert ml.ratelimit("user:1", numpy.int64(10), 60, cost=numpy.int32(3)).remaining == 7
    assert ml.cacheset("pred:x", "v1", numpy.float64(0.98))
    assert ml.cacheget("pred:x", "v1") == b"0.98"
    assert ml.cachemset({"pred:y": numpy.float64(0.98)}, "v1") == [True]
    assert ml.cacheget("pred:y", "v1") == b"0.98"
    assert ml.command("ECHO", numpy.float64(0.98)) == b"0.98"


WRONG = [
    (lambda ml: ml.ratelimit(None, 1, 60), "an argument of ML.RATELIMIT must be str, .*: None"),
    (lambda ml: ml.featureset("i", {"f": None}), "value of 'f' must be str, .*: None"),
    (lambda ml: ml.featureset("i", {"f": True}), "value of 'f' must be str, .*: True"),
    (lambda ml: ml.featureset("i", {"f": [1]}),
     r"value of 'f' must be str, .*an array of numpy: \[1\]"),
    (lambda ml: ml.featuretensor([None], ["f"]), "a key or field must be str, .*: None"),
    (lambda ml: ml.featuremset(["i"], numpy.ones((1, 1)), ["f"]), "fields must be names"),
    (lambda ml: ml.cacheset("k", "v", {}), "value must be str, .*: {}"),
    (lambda ml: ml.cachemset({"k": {}}, "v"), "value of 'k' must be str, .*: {}"),
    (lambda ml: ml.command("ECHO", None), "a word must be str, .*: None"),
    (lambda ml: ml.admit([Limit(1, 60)]), "items must be a dict of keys"),
    (lambda ml: ml.admit({"k": mlserve.limit("1/minute", key="k")}), "each with a Limit or"),
    (lambda ml: ml.settle(["k"], "0" * 32, 5), "actual must be a list of them, not 5 alone"),
    (lambda ml: ml.cacheset("k", "v", "x", ttl=0), "ttl must be seconds, above 0: 0"),
    (lambda ml: ml.cachefetch("k", "v", 0), "lease must be seconds, above 0: 0"),
    (lambda ml: ml.featuretensor(["i"], ["f"], max_age=0), "max_age must be seconds, above 0: 0"),
    (lambda ml: ml.admit({"k": Permit(1)}, hold=0), "hold must be seconds, above 0: 0"),
    (lambda ml: ml.stats("limit"), "section must be limits, cache, features or semantic: 'limit'"),
    (lambda ml: ml.delete(), "keys must not be empty"),
    (lambda ml: mlserve.Client("127.0.0.1", 6379), "a client is made by from_url"),
    (lambda ml: mlserve.FieldList("x", "age"), "fields must be a list of them, not 'age' alone"),
    (lambda ml: ml.serve(fetch=mlserve.calls.cacheget("a", "v"),
                         features=mlserve.calls.featureget(["a"], ["b"])),
     "fetch must be a call of ML.CACHEFETCH: <Call of ML.CACHEGET>"),
]


def test_what_cannot_be_sent_is_named(ml):
    for wrong, error in WRONG:
        with pytest.raises((TypeError, ValueError), match=error):
            wrong(ml)
    assert ml.command("PING") in (b"PONG", "PONG")


def test_a_request_in_one_call(ml):
    profile = mlserve.FieldList("profile", ["age", "score"])
    ml.fieldlist(profile.name, profile)
    ml.featureset("user:{7}", {"age": 31, "score": 0.5}, type="F32")

    def serve(features, **options):
        return ml.serve(
            admit=mlserve.calls.admit({"rpm:{7}": mlserve.Limit(2, 60)}),
            fetch=mlserve.calls.cachefetch("pred:{7}", "v1", 60),
            features=features, **options)

    tensor = mlserve.calls.featuretensor(["user:{7}"], profile)
    found = serve(tensor)
    assert found and found.fetch.status is mlserve.Status.LEASE and found.error is None
    assert found.features.numpy().tolist() == [[31, 0.5]]
    ml.cacheset("pred:{7}", "v1", "good", token=found.fetch.token)
    found = serve(tensor, free_hits=True)
    assert (found.admission, found.fetch.value, found.features) == (None, b"good", None)
    assert serve(ml.features(profile).call(["user:{7}"])).fetch.value == b"good"
    denied = serve(tensor)
    assert not denied and denied.fetch is None and denied.admission.binding == "rpm:{7}"
    # An error of the features stands beside what was answered.
    strict = mlserve.calls.featureget(["none:{7}"], ["age"], strict=True)
    found = ml.serve(fetch=mlserve.calls.cachefetch("other:{7}", "v1", 60), features=strict)
    assert found.fetch.token and "none:{7}" in str(found.error)
    with pytest.raises(mlserve.ResponseError, match="is missing"):
        found.features
    # Of what is asked before, it is one of the whole, and nothing was taken.
    ml.command("SET", "text:{7}", "1")
    with pytest.raises(mlserve.ResponseError, match="wrong kind"):
        ml.serve(
            admit=mlserve.calls.admit({"open:{7}": mlserve.Limit(2, 60)}),
            fetch=mlserve.calls.cachefetch("text:{7}", "v1", 60), features=tensor)
    assert not ml.command("EXISTS", "open:{7}")
    with pytest.raises(TypeError, match="fetch"):
        ml.serve(fetch=mlserve.calls.cacheget("a", "v"), features=strict)
    with pytest.raises(TypeError, match="fetch must be a call of ML.CACHEFETCH"):
        ml.serve(fetch=mlserve.calls.command("ML.CACHEFETCH", "k", "v", "LEASE", 5), features=strict)
    with pytest.raises(ValueError, match="free_hits needs admit and fetch"):
        ml.serve(
            fetch=mlserve.calls.cachefetch("{7}", "v", 5), features=strict, free_hits=True)
    with pytest.raises(ValueError, match="two of"):
        ml.serve(features=strict)
    with pytest.raises(ValueError, match="fetch must have no wait"):
        ml.serve(fetch=mlserve.calls.cachefetch("{7}", "v", 5, wait=1), features=strict)
