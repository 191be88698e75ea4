"""The log of the features that were served, and its files."""

import logging
import os
import signal
import subprocess
import sys
import threading

import numpy
import pytest
from conftest import free_port, until
from pyarrow import parquet

import mlserve
from mlserve.featurelog import Filer, Served
from mlserve.server import Server

STREAM = "log:features"


@pytest.fixture
def plain(server):
    with server.client() as plain:
        plain.flushall()
        yield plain


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """What is queued is written, though a machine stalls while a log is closed."""
    monkeypatch.setattr(mlserve.FeatureLog.close, "__defaults__", (30.0,))


@pytest.fixture
def client(server, plain):
    with mlserve.Client.from_url(server.url, timeout=5) as client:
        client.featureset("item:1", {"price": 84.5, "stock": 12}, at=1.7e9)
        client.featureset("item:2", {"price": 0.1}, at=1.71e9)
        yield client


def serve(client, count=1, *, fields=("price", "stock"), **options):
    """Serve so many calls, and log them."""
    features = client.features(list(fields), **options)
    served = []
    with mlserve.FeatureLog(client) as log:
        for _ in range(count):
            served.append(features(["item:1", "item:2", b"\xff:3"]))
            assert log.served(served[-1], version="v7", at=1234.567)
    assert (log.written, log.dropped) == (count, 0)
    return served


def filer(client, directory):
    return Filer(client, STREAM, directory, group="parquet", consumer="1")


def read_all(filer):
    """Read what an earlier run left, and file it; then what is new."""
    files = []
    while filer.left_over:
        if not filer.read(1000):
            files += filer.file()
    while filer.read(1000):
        pass
    return files + filer.file()


def tables(directory):
    return [parquet.read_table(path) for path in sorted(directory.glob("*.parquet"))]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_clients_7_the_log_says_exactly_what_was_served(client, tmp_path, dtype):
    """Pitfall "Clients" 7, its first half: not what the row holds later, but what was served."""
    default = {"default": -1} if dtype == "i8" else {}
    fields = ["stock"] if dtype == "i8" else ["price", "stock"]
    (served,) = serve(client, fields=fields, type=dtype, with_times=True, **default)
    client.featureset("item:1", {"price": 99.0, "stock": 99})
    read_all(filer(client, tmp_path))
    (table,) = tables(tmp_path)
    assert table["key"].to_pylist() == [b"item:1", b"item:2", b"\xff:3"]
    assert set(table["version"].to_pylist()) == {"v7"}
    assert {at.timestamp() for at in table["at"].to_pylist()} == {1234.567}
    for place, field in enumerate(fields):
        # Byte for byte: a NaN, and the last bit of 0.1.
        values = table[f"value.{field}"].to_numpy()
        assert values.dtype == served.numpy().dtype
        assert values.tobytes() == served.numpy()[:, place].tobytes()
        statuses = table[f"status.{field}"].to_numpy()
        assert statuses.tolist() == served.statuses()[:, place].tolist()
        times = table[f"time.{field}"].to_numpy()
        assert numpy.array_equal(
            times, served.event_times()[:, place].astype(times.dtype), equal_nan=True
        )


def test_a_vector_is_logged_as_a_list(client, tmp_path):
    embedding = numpy.array([0.1, numpy.nan, -0.0], "f4")
    client.featureset("item:1", {"e": embedding, "n": 7})
    (served,) = serve(client, fields=["n", "e[3]"], type="f4")
    read_all(filer(client, tmp_path))
    (table,) = tables(tmp_path)
    column = table["value.e[3]"].combine_chunks()
    assert column.flatten().to_numpy().tobytes() == served.column("e[3]").tobytes()
    assert table["value.n"].to_pylist()[0] == 7 and table["status.e[3]"].to_pylist()[0] == 1


def test_clients_7_the_names_are_those_of_the_call(client):
    """A list that the caller uses again does not change what is logged."""
    keys = ["item:1"]
    tensor = client.features(["price"])(keys)
    tensor.keys = keys
    with mlserve.FeatureLog(client) as log:
        log.served(tensor, version="v7")
        keys[0] = "item:2"
    entry = client.run(mlserve.calls.Call(["XRANGE", STREAM, "-", "+"], lambda found: found))[0][1]
    found = Served.of(mlserve.calls.pairs_of(entry))
    assert found.tensor.keys == [b"item:1"]


def test_clients_7_a_log_that_cannot_be_written_does_not_fail_the_serving(client, plain, caplog):
    """Pitfall "Clients" 7, its second half: the stream is no stream, and each call is counted."""
    plain.set(STREAM, "no stream")
    tensor = client.features(["price"])(["item:1"])
    with caplog.at_level(logging.WARNING), mlserve.FeatureLog(client) as log:
        for _ in range(50):
            assert log.served(tensor, version="v7")
    assert (log.written, log.dropped) == (0, 50)
    # It is said once, not 50 times.
    assert len([record for record in caplog.records if "not logged" in record.message]) == 1


def test_clients_7_a_server_that_hangs_does_not_slow_the_serving(client, module):
    """The server of the log is stopped: calls are queued, then dropped, and none waits."""
    tensor = client.features(["price"])(["item:1"])
    with Server(module=str(module)) as other:
        process = other._process.pid
        with mlserve.Client.from_url(other.url, timeout=30) as slow:
            slow.ratelimit("user:1", 1, 1)
            log = mlserve.FeatureLog(slow, max_queued=10)
            os.kill(process, signal.SIGSTOP)
            try:
                taken = sum(log.served(tensor, version="v7") for _ in range(2000))
                # The thread holds a batch at most, beside what is queued. All of them are
                # answered while the server says nothing, else this would not be reached.
                assert log.written == 0
                assert log.dropped == 2000 - taken
                assert taken <= 10 + 100
            finally:
                os.kill(process, signal.SIGCONT)
            log.close(timeout=10)
            assert log.written == taken


def test_a_server_that_is_not_there_is_counted(client):
    tensor = client.features(["price"])(["item:1"])
    with mlserve.Client.from_url(f"redis://127.0.0.1:{free_port()}") as nobody:
        with mlserve.FeatureLog(nobody) as log:
            for _ in range(5):
                log.served(tensor, version="v7")
    assert (log.written, log.dropped) == (0, 5)


def test_a_sample_of_the_calls_is_logged(client):
    tensor = client.features(["price"])(["item:1"])
    with mlserve.FeatureLog(client, sample=0.1, max_queued=10_000) as log:
        log._random.seed(1)
        taken = sum(log.served(tensor, version="v7") for _ in range(5000))
    assert 400 < taken < 600
    assert (log.written, log.dropped) == (taken, 0)
    with mlserve.FeatureLog(client, sample=0) as log:
        assert not log.served(tensor, version="v7")


def test_a_process_that_was_forked_off_logs_by_itself(client, plain):
    tensor = client.features(["price"])(["item:1"])
    with mlserve.FeatureLog(client) as log:
        log.served(tensor, version="parent")
        child = os.fork()
        if child == 0:
            log.served(tensor, version="child")
            log.close()
            os._exit(0 if log.written == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert log.written == 1
    assert plain.xlen(STREAM) == 2


def test_arguments_are_checked(client):
    with pytest.raises(ValueError, match="sample"):
        mlserve.FeatureLog(client, sample=1.5)
    with pytest.raises(ValueError, match="max_queued"):
        mlserve.FeatureLog(client, max_queued=0)
    with pytest.raises(TypeError, match="client"):
        mlserve.FeatureLog(mlserve.aio.Client.from_url("redis://127.0.0.1"))


def test_a_run_that_ended_before_it_filed_is_taken_up(client, plain, tmp_path):
    serve(client, 5)
    first = filer(client, tmp_path)
    first.read(10)
    first.read(3)
    assert len(first) == 3 and tables(tmp_path) == []
    read_all(filer(client, tmp_path))
    assert sum(table.num_rows for table in tables(tmp_path)) == 15
    assert plain.xpending(STREAM, "parquet")["pending"] == 0


def test_a_run_that_ended_before_it_acknowledged_files_nothing_twice(client, plain, tmp_path):
    serve(client, 5)
    first = filer(client, tmp_path)
    first.read(1)
    first.read(5)
    first._client = Dead(client)
    with pytest.raises(mlserve.Unavailable):
        first.file()
    assert plain.xpending(STREAM, "parquet")["pending"] == 5
    # What was filed is even trimmed off the stream before the next run.
    plain.xtrim(STREAM, maxlen=2, approximate=False)
    serve(client, 2)
    read_all(filer(client, tmp_path))
    assert sum(table.num_rows for table in tables(tmp_path)) == 21
    entries = [entry for table in tables(tmp_path) for entry in table["entry"].to_pylist()]
    assert len(set(entries)) == 7
    assert plain.xpending(STREAM, "parquet")["pending"] == 0


class Dead:
    """A client whose server is lost when something is acknowledged."""

    def __init__(self, client):
        self.client = client

    def run(self, call):
        if call.name == "XACK":
            raise mlserve.Unavailable("lost", sent=True)
        return self.client.run(call)


def test_calls_of_different_fields_go_into_files_of_their_own(client, tmp_path):
    serve(client, 2)
    serve(client, 1, fields=["stock"], type="f8")
    read_all(filer(client, tmp_path))
    found = {tuple(table.column_names[4:]): table.num_rows for table in tables(tmp_path)}
    assert found == {
        ("value.price", "status.price", "value.stock", "status.stock"): 6,
        ("value.stock", "status.stock"): 3,
    }


def test_an_entry_that_is_none_of_the_log_is_left_out_and_named(client, plain, tmp_path, capsys):
    found = plain.xadd(STREAM, {"something": "else"})
    serve(client)
    torn = plain.xadd(
        STREAM,
        {"at": "1", "version": "v", "type": "<f4", "keys": "\x01", "fields": "", "data": ""}
        | {"status": ""},
    )
    read_all(filer(client, tmp_path))
    assert sum(table.num_rows for table in tables(tmp_path)) == 3
    said = capsys.readouterr().err
    assert found in said and torn in said


def command(server, directory, *words):
    return [
        *[sys.executable, "-m", "mlserve.cli", "log-features", "--url", server.url],
        *["--to", str(directory), *words],
    ]


def test_the_command_files_the_stream(server, client, tmp_path):
    serve(client, 25)
    done = subprocess.run(
        command(server, tmp_path, "--once", "--entries", "10"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert sum(table.num_rows for table in tables(tmp_path)) == 75


def test_the_command_killed_again_and_again_loses_nothing(server, client, plain, tmp_path):
    stop = threading.Event()
    written = []

    def write():
        while not stop.is_set():
            written.append(len(serve(client, 20)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(4):
            many = len(list(tmp_path.glob("*.parquet")))
            process = subprocess.Popen(
                command(server, tmp_path, "--every", "0.05"), stdout=subprocess.DEVNULL
            )
            until(lambda many=many: len(list(tmp_path.glob("*.parquet"))) > many, seconds=60)
            process.kill()
            process.wait()
    finally:
        stop.set()
        writer.join()
    done = subprocess.run(
        command(server, tmp_path, "--once"), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    entries = [entry for table in tables(tmp_path) for entry in table["entry"].to_pylist()]
    assert len(entries) == 3 * sum(written)
    assert len(set(entries)) == sum(written)


def test_the_command_files_what_it_holds_when_it_is_ended(server, client, tmp_path):
    process = subprocess.Popen(
        command(server, tmp_path, "--every", "3600"), stderr=subprocess.PIPE, text=True
    )
    try:
        serve(client, 3)
        # It has read them once it waits for more.
        asked = mlserve.calls.Call(["XINFO", "GROUPS", STREAM], mlserve.calls.as_it_is)

        def has_read_all():
            groups = [mlserve.calls.named(group) for group in client.run(asked)]
            return groups and groups[0]["pending"] == 3

        until(has_read_all, seconds=60)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert sum(table.num_rows for table in tables(tmp_path)) == 9
