"""What the client of the Python package holds and how it is documented: a method for each
command, connections, forks, event loops."""

import asyncio
import concurrent.futures
import contextlib
import inspect
import multiprocessing
import re
import socket
import subprocess
import threading
import time

import numpy
import pytest
from conftest import servers, until, until_waiting

import mlserve
import mlserve.aio
from mlserve import Limit, Permit, Status, calls
from mlserve._commands import Commands
from mlserve.calls.call import bulk
from mlserve.server import Server

# The commands whose method has another name: `features` prepares what is asked repeatedly.
OTHER_NAMES = {"ML.FEATURES": "features_of"}


@pytest.fixture
def client(url):
    with mlserve.Client.from_url(url, timeout=5) as client:
        yield client


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_an_error_keeps_the_argument_that_it_names_and_its_code(url, library):
    with mlserve.Client.from_url(url, timeout=5, library=library) as client:
        with pytest.raises(mlserve.ResponseError, match="^AT must be") as raised:
            client.command("ML.FEATURESET", "row", "FIELDS", 1, "f", 1, "AT", 5)
        assert raised.value.code == "ERR"
        client.command("SET", "string", "x")
        with pytest.raises(mlserve.ResponseError, match="^Operation against") as raised:
            client.ratelimit("string", 1, 1)
        assert raised.value.code == "WRONGTYPE"


def test_every_command_that_is_not_internal_has_a_method(client):
    listed = client.command("COMMAND", "LIST", "FILTERBY", "MODULE", "ml")
    known = [name.decode().upper() for name in listed]
    public = {name for name in known if not re.match(r"ML\.(APPLY|LOAD)", name)}
    assert len(public) > 20
    for name in public:
        method = OTHER_NAMES.get(name, name.removeprefix("ML.").lower())
        for kind in (mlserve.Client, mlserve.aio.Client, mlserve.Pipeline, mlserve.aio.Pipeline):
            found = getattr(kind, method)
            assert name in found.__doc__, f"{method} does not say what command it is"
            assert inspect.signature(found).return_annotation.strip("'")
    made = {name for name in vars(Commands) if not name.startswith("_")}
    unknown = {OTHER_NAMES.get(name, name.removeprefix("ML.").lower()) for name in public}
    # DEL is the server's own; FEATUREGET has four shapes of answers.
    assert made - unknown == {"command", "delete", "featureget_timed", "featurejson",
                              "featuretensor"}


def test_an_event_is_repeated_only_where_it_has_a_number():
    for call, again in [
        (calls.featurepush("k", "s", ["x"], 9), False),
        (calls.featurepush("k", "s", ["x"], 9, seq=0), True),
        (calls.featuretally("k", {"t": 1}, [(60, 60)]), False),
        (calls.featuretally("k", {"t": 1}, [(60, 60)], seq=0), True),
    ]:
        assert call.again is again, call.words


def tokens_of(arguments):
    """The keywords of the arguments of COMMAND DOCS, all levels deep."""
    for argument in map(calls.named, arguments):
        if "token" in argument:
            yield argument["token"].decode()
        yield from tokens_of(argument.get("arguments", []))


def said_as(word):
    return word.decode("latin-1") if isinstance(word, bytes) else word


@pytest.mark.parametrize(("word", "sent"), [
    (7, b"7"), (0.5, b"0.5"), ("\u00e9", b"\xc3\xa9"), (b"\xff", b"\xff"), (numpy.float64(0.5), b"0.5"),
    (numpy.array(b"k"), b"k"), (memoryview(b"k"), b"k"),
    (bytearray(b"k"), b"k"),
])
def test_a_word_is_packed_as_the_libraries_send_it(word, sent):
    assert bulk(word) == b"$%d\r\n%b\r\n" % (len(sent), sent)


@pytest.mark.parametrize("word", [None, True, [1]])
def test_what_is_no_word_is_named(word):
    with pytest.raises(TypeError, match="an entity must be str"):
        bulk(word, "an entity")


HELD = "0" * 32

# Calls that together use every keyword of their command.
EVERY_KEYWORD = {
    "ML.RATELIMIT": [
        calls.ratelimit("a", 5, 60, algorithm="FIXED", cost=2, peek=True),
        calls.ratelimit("b", 5, 60, algorithm="SLIDING", partial=True),
        calls.ratelimit("c", 5, 60, algorithm="GCRA", burst=9, force=True),
        calls.ratelimit("d", 5, 60, hold=60, id=HELD),
        calls.ratelimit("e", 5, "DAY", 9, "WEEK", 20, "MONTH"),
        calls.ratelimit("f", 5, calls.Until(time.time() + 3600)),
    ],
    "ML.ADMIT": [
        calls.admit(
            {
                "g": Limit(5, "DAY", 9, "WEEK", 20, "MONTH", algorithm="FIXED", queue=3),
                "h": Limit(5, 60, algorithm="GCRA", burst=9, cost=2),
                "i": Limit(5, 60, algorithm="SLIDING"),
                "j": Permit(5, cost=2, queue=3),
            }, hold=60, id=HELD, wait=0.01, priority=2),
        calls.admit({"k": Limit(5, calls.Until(time.time() + 3600))}, peek=True),
        calls.admit({"l": Limit(5, 60)}, force=True),
    ],
    "ML.SETTLE": [calls.settle(["d"], HELD, [1])],
    "ML.SERVE": [
        calls.serve(
            admit=calls.admit(
                {
                    "g": Limit(5, "DAY", 9, "WEEK", 20, "MONTH", algorithm="FIXED", queue=3),
                    "h": Limit(5, 60, algorithm="GCRA", burst=9, cost=2),
                    "i": Limit(5, 60, algorithm="SLIDING"),
                    "j": Permit(5, cost=2, queue=3),
                }, hold=60, id=HELD),
            fetch=calls.cachefetch("n", "v", 5, early=1.0, token=HELD),
            features=calls.featureget(["s"], ["b"], default=0, max_age=60, strict=True),
            free_hits=True),
        calls.serve(
            admit=calls.admit({"k": Limit(5, calls.Until(time.time() + 3600))}),
            features=calls.featureget(["s"], ["v:b"], layout="feast")),
        calls.serve(
            fetch=calls.cachefetch("n", "v", 5),
            features=calls.featureget(["s"], ["b"], defaults=[0])),
        calls.serve(
            fetch=calls.cachefetch("n", "v", 5),
            features=calls.featurejson(["s"], ["b"])),
        *(calls.serve(fetch=calls.cachefetch("n", "v", 5),
                      features=calls.featuretensor(["s"], ["b"], type, with_times=True))
          for type in calls.TENSOR_TYPES),
    ],
    "ML.CACHESET": [
        calls.cacheset("m", "v", "{}", ttl=60, stale=60, jitter=5, json=True),
        calls.cacheset("m", "v", "{}", expires_at=time.time() + 60, token=HELD),
    ],
    "ML.CACHEMSET": [
        calls.cachemset({"m": 1}, "v", ttl=60, stale=60, jitter=5),
        calls.cachemset({"m": 1}, "v", expires_at=time.time() + 60, token=HELD),
    ],
    "ML.CACHEGET": [calls.cacheget("m", "v", stale=True)],
    "ML.CACHEDROP": [calls.cachedrop("m", version="v", stale=True)],
    "ML.CACHEFETCH": [calls.cachefetch("n", "v", 5, wait=0.01, early=1.0, token=HELD)],
    "ML.CACHEMFETCH": [calls.cachemfetch(["o"], "v", 5, token=HELD)],
    "ML.CACHERELEASE": [calls.cacherelease("n", HELD, backoff=0.001)],
    "ML.CACHEVERSIONSET": [calls.cacheversionset("space", None)],
    "ML.SEMSET": [
        calls.semset("sem", "v", [1.0] * 8, "x", embedder="m", prompt="p", digest="d", ttl=60,
                     stale=60, jitter=5),
        calls.semset("sem", "v", numpy.ones(8), "x", expires_at=time.time() + 60, token=HELD),
    ],
    "ML.SEMGET": [
        calls.semget("sem", "v", b"1234" * 8, 0.95, maybe=0.9, top=3, embedder="m", digest="d"),
    ],
    "ML.SEMFETCH": [
        calls.semfetch("sem", "v", b"1234" * 8, 0.95, 5, wait=0.01, maybe=0.9, top=3,
                       embedder="m", digest="d", token=HELD),
    ],
    "ML.SEMALIAS": [calls.semalias("sem", "v", b"1234" * 8, HELD, HELD)],
    "ML.SEMRELEASE": [calls.semrelease("sem", HELD, backoff=0.001)],
    "ML.SEMDROP": [calls.semdrop("sem", id=HELD), calls.semdrop("sem", version="w")],
    "ML.STATS": [
        calls.stats("limits", namespace="a"),
        calls.stats("cache"),
        calls.stats("features", reset=True),
        calls.stats("semantic"),
    ],
    "ML.FEATURESET": [
        calls.featureset("r", {"x": 1}, view="w", at=time.time(), ttl=60, replace=True),
        calls.featureset("r", {"x": 1}, expires_at=time.time() + 60, type="AUTO"),
        calls.featureset("s", {"a": 1, "b": 1, "c": 1, "d": 1},
                         type={"a": "F32", "b": "F64", "c": "I64", "d": "STRING"}),
        calls.featureset("s", {"e": b"\0" * 8}, type="F32[2]"),
    ],
    "ML.FEATUREMSET": [
        calls.featuremset(["r"], ["y"], b"\0" * 4, view="w", at=time.time(), ttl=60, replace=True),
        calls.featuremset(["t"], ["y"], b"\0" * 8, type="f8", expires_at=time.time() + 60),
        calls.featuremset(["u"], ["y"], b"\0" * 8, type="i8", times=b"\0" * 8),
        calls.featuremset(["u"], ["z"], b"\0" * 8, dim=2),
    ],
    "ML.FEATUREPUSH": [
        calls.featurepush("p", "s", [1, "x"], 9, at=time.time(), seq=1, view="v"),
        *(calls.featurepush("p", "s", [1], 9, type=kind)
          for kind in ["AUTO", "F32", "F64", "I64", "STRING"]),
    ],
    "ML.FEATURETALLY": [
        calls.featuretally("p", {"t": 1.5}, [(60, 1)], at=time.time(), seq=1, view="v"),
    ],
    "ML.FEATUREDEL": [
        calls.featuredel("r", view="w"),
        calls.featuredel("s", fields=["a"]),
    ],
    "ML.FIELDLIST": [calls.fieldlist("l", None)],
    "ML.FEATUREGETALL": [calls.featuregetall("s", view="")],
    "ML.FEATUREGET": [
        calls.featureget(["s"], ["b"], default=0, max_age=60, strict=True),
        calls.featureget(["s"], ["b"], defaults=[0]),
        calls.featureget(["s"], ["v:b"], layout="feast"),
        calls.featureget_timed(["s"], ["b"], max_age=60, strict=True),
        calls.featurejson(["s"], ["b"]),
        *(calls.featuretensor(["s"], ["b"], type, with_times=True) for type in calls.TENSOR_TYPES),
    ],
}  # fmt: skip
# What is said in another way.
SAID_OTHERWISE = {"EX": "PX", "EXAT": "PXAT", "VALUES": "the default of AS"}


def test_every_keyword_of_every_command_can_be_said(client):
    listed = client.command("COMMAND", "LIST", "FILTERBY", "MODULE", "ml")
    public = [name for name in listed if not re.match(rb"ml\.(apply|load)", name, re.I)]
    documented = {
        name.decode().upper(): set(tokens_of(calls.named(docs).get("arguments", [])))
        for name, docs in calls.pairs_of(client.command("COMMAND", "DOCS", *public)).items()
    }
    assert set(documented) == {name.decode().upper() for name in public}
    said = dict.fromkeys(documented, "")
    for name, made in EVERY_KEYWORD.items():
        for call in made:
            client.run(call)  # The server takes it as it is.
            assert call.name == name
            words = call.words
            said[name] = said[name] + (
                words.decode("latin-1") if isinstance(words, bytes)
                else "".join(f"\r\n{said_as(word)}\r\n" for word in words))  # fmt: skip
    missing = {
        name: {token for token in tokens if f"\r\n{token}\r\n" not in said[name]}
        for name, tokens in documented.items()
    }
    # No more and no less is left out than is said here.
    assert set().union(*missing.values()) == set(SAID_OTHERWISE), missing


def test_a_server_without_the_module_says_how_to_load_it(tmp_path):
    from conftest import free_port, wait_for

    port = free_port()
    path = next(iter(servers().values()))
    process = subprocess.Popen(
        [path, "--port", str(port), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_for(port, process).close()
        with mlserve.Client.from_url(f"redis://127.0.0.1:{port}") as client:
            with pytest.raises(mlserve.ModuleMissing, match="does not know ML.RATELIMIT: load"):
                client.ratelimit("k", 1, 1)
            # What is packed beforehand knows its name as well.
            with pytest.raises(mlserve.ModuleMissing, match="ML.FEATUREGET.*loadmodule"):
                client.features(["a"])(["k"])
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(("call", "error"), [
    (lambda: calls.cachemget("k", "v"), "keys must be a list of them, not 'k' alone"),
    (lambda: calls.settle([], "0" * 32), "keys must not be empty"),
    (lambda: calls.settle(["a", "b"], "0" * 32, [1]), "actual must be given for each of the 2"),
    (lambda: calls.ratelimit("k", 1, 1, 5), "a limit and a window"),
    (lambda: calls.ratelimit("k", 1, 1, hold=-1), "hold must be seconds, above 0: -1"),
    (lambda: calls.ratelimit("k", 1, None), "window must be seconds"),
    (lambda: calls.cacheset("k", "v", 1, ttl=1, expires_at=1), "ttl and expires_at exclude"),
    (lambda: calls.cachefetch("k", "v", float("nan")), "lease must be seconds"),
    (lambda: calls.featuredel("k"), "either view or fields"),
    (lambda: calls.featuretensor(["k"], ["f"], "f2"), "type must be one of f4, f8, i8, .*'f2'"),
    (lambda: calls.featureset("k", {}), "values must not be empty"),
    (lambda: calls.featureset("k", {"e": numpy.zeros(2, "f2")}), "field 'e' must be an array"),
    (lambda: calls.featureset("k", {"e": numpy.zeros(0, "f4")}), "field 'e' must be an array"),
    (lambda: calls.featuremset(["k"], ["e"], numpy.zeros((1, 2, 3))), "1 × 1 × 3"),
    (lambda: calls.featureset("k", {"age": 1, "e": 2}, type={"agee": "F32"}),
     "type names a field that has no value: 'agee'"),
    (lambda: calls.featureset("k", [("age", 1)]), "values must be a dict: "),
    (lambda: calls.cachemset([("k", 1)], "v"), "values must be a dict: "),
    (lambda: calls.featuremset(["k"], ["e"], numpy.zeros((1, 1), "i4")), "i8, not of int32"),
    (lambda: calls.featuremset(["k"], ["e"], [[0.5]], type="f2"), "type must be one of f4"),
    (lambda: calls.featuremset(["k"], ["a", "b"], [[0.5, 123456789]]), "f4 does not .*123456789"),
    (lambda: calls.featuremset(["k"], ["a"], [[2**53 + 1]], type="F64"), "f8 does not hold: 9007"),
    (lambda: calls.featuremset(["k"], ["a"], [[0.5]], type="i8"), "i8 does not hold: 0.5"),
    (lambda: calls.featuremset(["k"], ["a"], [[numpy.nan]], type="i8"), "i8 does not hold: nan"),
    (lambda: calls.featuremset(["k"], ["a"], [[2**70]]), "f4, f8 or i8, not of object"),
    (lambda: calls.featurepush("k", "s", [], 9), "items must not be empty"),
    (lambda: calls.featurepush("k", "s", ["x", "Last"], 9), "not have 'Last' behind another"),
    (lambda: calls.featurepush("k", "s", ["x", b"LAST", "y"], 9), "not have b'LAST' behind"),
    (lambda: calls.featuretally("k", {}, [(60, 60)]), "amounts must not be empty"),
    (lambda: calls.featuretally("k", [("t", 1)], [(60, 60)]), "amounts must be a dict: "),
    (lambda: calls.featuretally("k", {"t": 1}, []), "windows must not be empty"),
    (lambda: calls.featuretally("k", {"t": 1}, (3600, 60)), r"of \(span, tile\).*: 3600 is none"),
    (lambda: calls.featuretally("k", {"t": 1}, {3600: 60}), r"of \(span, tile\).*: 3600 is none"),
    (lambda: calls.featuretally("k", {"t": 1}, [("3600", "60")]), r"of \(span, tile\)"),
    (lambda: calls.admit({}), "items must not be empty"),
    (lambda: mlserve.Client.from_url("redis://x", timeout=0), "timeout must be seconds"),
    (lambda: mlserve.Client.from_url("redis://x", max_connections=0), "max_connections"),
    (lambda: mlserve.Client.from_url("redis://x", library="other"), "library must be redis or"),
])  # fmt: skip
def test_an_argument_that_cannot_be_sent_is_named(call, error):
    with pytest.raises((ValueError, TypeError), match=error):
        call()


def test_a_type_has_the_servers_name_and_numpys():
    for one, other in calls.TENSOR_TYPES.items():
        made = [
            (
                calls.featureset("k", {"e": numpy.zeros(2, "f4"), "age": 1}, type=type).words,
                calls.featureset("k", {"e": b"0" * 16}, type=f"{type}[2]").words,
                calls.featureset("k", {"age": 1}, type={"age": type}).words,
                calls.featuremset(["k"], ["e"], [[1]], type=type).words,
                calls.featurepush("k", "s", [1], 9, type=type).words,
                calls.featuretensor(["k"], ["e"], type).words,
            )
            for type in (one, other)
        ]
        assert made[0] == made[1]
        assert other in made[0][2]


@pytest.mark.parametrize(("values", "type"), [
    (numpy.array([[123456789]]), "I64"),
    (numpy.array([[0.1]]), "F64"),
    (numpy.array([[0.1]], ">f4"), "F32"),
    (numpy.array([[0.1]], ">f8"), "F64"),
    ([[0.1]], "F32"),
    ([[0.1, 16777216]], "F32"),
    ([[123456789]], "I64"),
    ([numpy.array([0.1])], "F64"),
    (b"\0" * 4, "F32"),
])  # fmt: skip
def test_rows_are_written_as_what_their_array_is(values, type):
    fields = ["a", "b"][: len(values[0]) if not isinstance(values, bytes) else 1]
    words = calls.featuremset(["k"], fields, values).words
    assert words[words.index("TYPE") + 1] == type
    blob = words[3]
    if type != "F32":
        dtype = {"I64": "<i8", "F64": "<f8"}[type]
        assert numpy.frombuffer(blob, dtype).tolist() == numpy.asarray(values).ravel().tolist()


def test_an_item_that_reads_as_the_keyword_is_pushed_alone(client):
    assert client.featurepush("visitor", "said", ["last"], 5)
    assert client.featurepush("visitor", "said", ["LAST", "at"], 5)
    assert client.featurepush("visitor", "said", [0.5, numpy.int64(1)], 5)
    assert client.features_of("visitor", ["said"]) == [[1, 0.5, b"at", b"LAST", b"last"]]


def test_windows_are_exact():
    from datetime import timedelta
    from decimal import Decimal

    given = [60, 0.1 + 0.2, 1.5, Decimal("0.001"), timedelta(days=1, microseconds=5), "DAY"]
    assert [calls.window_words(window)[0] for window in given] == [
        60, "0.3", "1.5", "0.001", "86400.000005", "DAY"]  # fmt: skip


# --- shared/pitfalls.md, "Clients" ---------------------------------------------


def test_pitfall_1_a_server_that_is_down_costs_no_more_than_the_time_out():
    # One that takes connections and never answers: what a paused server looks like.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with mlserve.Client.from_url(url, timeout=0.05) as client:
            with pytest.raises(mlserve.TimedOut):
                client.ratelimit("k", 1, 1)
    with mlserve.Client.from_url(url, timeout=30) as client:
        with pytest.raises(mlserve.Unavailable) as raised:
            client.ratelimit("k", 1, 1)
    assert not raised.value.sent


class Flaky:
    """A server between, that closes the connection once in place of an answer to ML.*."""

    def __init__(self, port):
        self.port = port
        self.calls = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[near], daemon=True).start()

    def serve(self, near):
        with near, socket.create_connection(("127.0.0.1", self.port)) as far:
            while asked := near.recv(65536):
                far.sendall(asked)
                answer = far.recv(65536)
                if b"ML." in asked:
                    self.calls += 1
                    if self.calls == 1:
                        return
                near.sendall(answer)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "asyncio"])
def test_pitfall_2_only_what_may_be_repeated_is_repeated(server, url, asynchronous):
    def call(between, make):
        if not asynchronous:
            with mlserve.Client.from_url(between.url, timeout=5) as client:
                return client.run(make)

        async def calling():
            async with mlserve.aio.Client.from_url(between.url, timeout=5) as client:
                return await client.run(make)

        return asyncio.run(calling())

    with mlserve.Client.from_url(url, timeout=5) as direct:
        # Charged, and not heard of: a second time would be a second charge.
        between = Flaky(server.port)
        with pytest.raises(mlserve.Unavailable) as raised:
            call(between, calls.ratelimit("plain", 10, 60))
        assert raised.value.sent and between.calls == 1
        assert direct.limitinfo("plain").windows[0].used == 1
        # The ids of its own make it harmless.
        for name, make in {
            "held": calls.ratelimit("held", 10, 60, hold=60),
            "admitted": calls.admit({"admitted": Limit(10, 60)}, hold=60),
        }.items():
            between = Flaky(server.port)
            assert call(between, make) and between.calls == 2
            assert direct.limitinfo(name).windows[0].used == 1
        between = Flaky(server.port)
        fetched = call(between, calls.cachefetch("pred:x", "v1", 60))
        assert fetched.status is Status.LEASE and between.calls == 2


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "asyncio"])
def test_what_waited_and_lost_its_connection_waits_again(url, asynchronous):
    make = calls.admit({"gpu": Permit(1)}, hold=60, wait=20)

    def waits():
        if not asynchronous:
            with mlserve.Client.from_url(url, timeout=1.5) as client:
                return client.run(make)

        async def waiting():
            async with mlserve.aio.Client.from_url(url, timeout=1.5) as client:
                return await client.run(make)

        return asyncio.run(waiting())

    with (
        mlserve.Client.from_url(url, timeout=5) as other,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        holder = other.admit({"gpu": Permit(1)}, hold=60)
        waiting = threads.submit(waits)
        until_waiting(waiting, other, "gpu")
        time.sleep(2)  # The wait is what is tried: longer than the time-out.
        listed = other.command("CLIENT", "LIST").decode().splitlines()
        blocked = [line.split("id=", 1)[1].split(" ", 1)[0] for line in listed if " flags=b " in line]
        assert len(blocked) == 1
        assert other.command("CLIENT", "KILL", "ID", blocked[0]) == 1
        until_waiting(waiting, other, "gpu")
        other.settle(["gpu"], holder.id)
        assert waiting.result().id == make.words[make.words.index("ID") + 1]


def test_pitfall_4_a_fork_after_the_connection(client):
    client.ratelimit("k", 1000, 60)

    def child(answers):
        answers.put([client.ratelimit("k", 1000, 60).granted for _ in range(50)])

    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=child, args=[answers]) for _ in range(3)]
    for process in children:
        process.start()
    mine = [client.ratelimit("k", 1000, 60).granted for _ in range(50)]
    theirs = [answers.get(timeout=30) for _ in children]
    for process in children:
        process.join()
    assert [mine, *theirs] == [[1] * 50] * 4
    assert client.limitinfo("k").windows[0].used == 201


def test_pitfall_4_an_event_loop_closed_under_a_client(url):
    client = mlserve.aio.Client.from_url(url, timeout=5)
    for remaining in (4, 3, 2):
        assert asyncio.run(client.run(calls.ratelimit("k", 5, 60))).remaining == remaining
    assert len(client._loops) == 1  # Those that were closed are forgotten.


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "asyncio"])
def test_pitfall_4_waiters_leave_connections_for_those_they_wait_for(url, asynchronous):
    threads = concurrent.futures.ThreadPoolExecutor(16)

    async def everything():
        if asynchronous:
            client = mlserve.aio.Client.from_url(url, timeout=5, max_connections=4)
            run = client.run
        else:
            client = mlserve.Client.from_url(url, timeout=5, max_connections=4)

            def run(call):
                loop = asyncio.get_running_loop()
                return loop.run_in_executor(threads, client.run, call)

        holder = await run(calls.admit({"gpu": Permit(1)}, hold=60))
        waiters = [
            asyncio.ensure_future(run(calls.admit({"gpu": Permit(1)}, hold=60, wait=30)))
            for _ in range(8)
        ]
        with mlserve.Client.from_url(url) as other:
            while other.limitinfo("gpu").waiters < 3:
                await asyncio.sleep(0.01)
        # Three quarters wait; what lets them in gets through, one after the other.
        assert await run(calls.settle(["gpu"], holder.id)) == [True]
        for done in asyncio.as_completed(waiters):
            admission = await done
            assert admission.admitted
            assert await run(calls.settle(["gpu"], admission.id)) == [True]
        await client.aclose() if asynchronous else client.close()

    asyncio.run(everything())


def test_pitfall_4_a_pool_that_is_exhausted_says_so(server, url):
    with mlserve.Client.from_url(url, timeout=2, max_connections=1) as client:
        holder = client.admit({"gpu": Permit(1)}, hold=60)
        waiting = threading.Thread(target=client.admit, args=[{"gpu": Permit(1)}],
                                   kwargs={"hold": 60, "wait": 20})  # fmt: skip
        waiting.start()
        with mlserve.Client.from_url(url) as other:
            until(lambda: not waiting.is_alive() or other.limitinfo("gpu").waiters)
            assert waiting.is_alive()
            with pytest.raises(mlserve.TimedOut, match="all of 1 connections are in use, 1 of"):
                client.ratelimit("k", 1, 1)
            other.settle(["gpu"], holder.id)
        waiting.join()


def test_pitfall_4_a_cancelled_waiter_leaves_the_queue(url):
    async def everything():
        async with mlserve.aio.Client.from_url(url, timeout=5) as client:
            await client.admit({"gpu": Permit(1)}, hold=60)
            waiting = asyncio.ensure_future(client.admit({"gpu": Permit(1)}, hold=60, wait=60))
            while not (await client.limitinfo("gpu")).waiters:
                await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while (await client.limitinfo("gpu")).waiters:
                await asyncio.sleep(0.01)

    asyncio.run(everything())


def test_pitfall_5_bytes_stay_bytes_whatever_decode_responses_says(url):
    with mlserve.Client.from_url(f"{url}?decode_responses=true", timeout=5) as client:
        client.cacheset("pred:x", "v1", b"\xff\xfe")
        assert client.cacheget("pred:x", "v1") == b"\xff\xfe"
        client.featureset("item:1", {"a": -0.5})
        assert client.features(["a"], type="f8")(["item:1"]).numpy().tolist() == [[-0.5]]


def test_pitfall_5_readonly_from_an_old_primary_has_the_client_connect_anew(server, url):
    with Server(server=str(server._server), module=str(server._module)) as other:
        with other.client() as admin, mlserve.Client.from_url(other.url, timeout=5) as client:
            assert client.ratelimit("k", 5, 60)
            admin.execute_command("REPLICAOF", "127.0.0.1", server.port)
            with pytest.raises(mlserve.ResponseError) as raised:
                client.ratelimit("k", 5, 60)
            assert raised.value.code == "READONLY"
            admin.execute_command("REPLICAOF", "NO", "ONE")
            assert client.ratelimit("k", 5, 60)
