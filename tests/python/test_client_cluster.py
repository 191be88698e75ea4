"""The client of the Python package in a cluster: calls whose keys are in several slots."""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import time
import uuid

import numpy
import pytest
import redis
from conftest import NODES, PATIENCE, ROOT, nodes_agree, serves_all, until, until_waiting
from test_client_cached_alike import cached_by  # noqa: F401
from test_client_faults import TIMEOUT, Trial, answers, kind, trial  # noqa: F401
from test_client_matrix import Caller

import mlserve
import mlserve.aio
from mlserve import Limit, Permit, Status

KEYS = [f"key:{number}" for number in range(40)]


class ClusterCaller(Caller):
    def __init__(self, url, asynchronous, timeout=5):
        super().__init__(url, None, 3, asynchronous)
        self.client = type(self.client).cluster(url, timeout=timeout)


@pytest.fixture(params=[False, True], ids=["threads", "asyncio"])
def ml(cluster_port, request):
    caller = ClusterCaller(f"redis://127.0.0.1:{cluster_port}", request.param)
    yield caller
    caller.close()


def test_keys_of_several_slots_are_fanned_out_and_put_back_in_order(ml):
    values = {key: f"of {key}" for key in KEYS}
    fetched = ml.cachemfetch(KEYS, "v1", 5)
    assert {one.status for one in fetched} == {Status.LEASE}
    assert len({one.token for one in fetched}) == 1
    assert ml.cachemset(values, "v1", token=fetched[0].token) == [True] * len(KEYS)
    asked = [*reversed(KEYS), "none"]
    expected = [*(f"of {key}".encode() for key in reversed(KEYS)), None]
    assert ml.cachemget(asked, "v1") == expected
    for key in KEYS:
        assert ml.cacheget(key, "v1") == values[key].encode()
    assert ml.delete(*KEYS, "none") == len(KEYS)
    assert ml.cachemget(KEYS, "v1") == [None] * len(KEYS)


def test_tensors_of_several_slots_are_put_together_in_order(ml):
    array = numpy.arange(120, dtype="f4").reshape(40, 3)
    times = numpy.arange(40) + 1_700_000_000_000
    rows = [f"row:{number}" for number in range(40)]
    fields = ["a", "b", "c"]
    assert ml.featuremset(rows, fields, array, times=times) == [True] * 40
    order = numpy.random.default_rng(1).permutation(40)
    chosen = [rows[place] for place in order] + ["nobody"]
    tensor = ml.answer(ml.client.features(fields, with_times=True)(chosen))
    assert numpy.array_equal(tensor.numpy()[:40], array[order])
    assert tensor.statuses()[40].tolist() == [3, 3, 3]
    assert tensor.event_times()[0, 0] == numpy.datetime64(int(times[order[0]]), "ms")
    assert ml.featureget(chosen, ["b"])[5] == [float(array[order[5], 1])]
    timed = ml.featureget_timed(chosen, ["b"])
    assert timed[5] == ([float(array[order[5], 1])], [int(times[order[5]]) / 1000])
    assert timed[40] == ([None], [None])
    assert ml.featurejson(["row:1", "row:0"], ["c"]) == b'[{"c":5.0},{"c":2.0}]'


def test_vectors_of_several_slots_are_put_together_in_order(ml):
    array = numpy.arange(240, dtype="f8").reshape(20, 2, 6)
    rows = [f"vectors:{number}" for number in range(20)]
    for values in (array, array.tobytes()):
        assert ml.featuremset(rows, ["e", "d"], values, type="f8", dim=6) == [True] * 20
    for row in rows:
        assert ml.featurepush(row, "viewed", [row, 1, 2], 2)
    asked = ["viewed[3]", "e[6]", "d[6]", "d[5]"]
    tensor = ml.featuretensor([*reversed(rows), "nobody"], asked, "f8", with_times=True)
    assert tensor.shape == (21, 20) and tensor.event_times().shape == (21, 4)
    assert numpy.array_equal(tensor.column("d[6]")[:20], array[::-1, 1])
    assert tensor.column("viewed[3]")[:20, :2].tolist() == [[2, 1]] * 20
    assert tensor.statuses()[[0, 20]].tolist() == [[1, 1, 1, 5], [3, 3, 3, 3]]


def test_an_admission_of_several_slots_takes_all_or_nothing(ml):
    items = {"user:rpm": Limit(10, 60, cost=4), "model:gpu": Permit(2), "team:tpm": Limit(100, 60)}
    admission = ml.admit(items, hold=60)
    assert admission and admission.id and list(admission.rows) == list(items)
    assert ml.admit(items, hold=60)
    # The third is denied by one of the three: what the others took is given back.
    denied = ml.admit(items, hold=60)
    assert not denied and denied.id is None and denied.retry_after > 0
    assert set(denied.rows) == set(items)
    assert all(row.granted == 0 for row in denied.rows.values())
    assert ml.limitinfo("model:gpu").in_use == 2
    assert ml.limitinfo("user:rpm").windows[0].used == 8
    assert ml.limitinfo("team:tpm").windows[0].used == 2
    assert ml.renew(list(items), admission.id, 30) == [True] * 3
    assert ml.settle(list(items), admission.id, [0, None, 0]) == [True] * 3
    assert ml.limitinfo("user:rpm").windows[0].used == 4
    assert not ml.admit(dict(items, **{"user:rpm": Limit(10, 60, cost=11)}), peek=True)
    without = ml.admit({"user:rpm": Limit(10, 60), "team:tpm": Limit(100, 60)})
    assert without and without.id is None
    failing = {"user:rpm": Limit(10, 60), "team:tpm": Limit(-1, 60)}
    used = ml.limitinfo("user:rpm").windows[0].used
    with pytest.raises(mlserve.ResponseError, match="limit must be"):
        ml.admit(failing)
    assert ml.limitinfo("user:rpm").windows[0].used == used


def test_versions_are_put_in_force_on_every_primary(ml):
    ml.cacheversionset("pred", ["v2"])
    try:
        found = {ml.answer(node.cacheversion("pred"))[0] for node in ml.nodes().values()}
        assert found == {b"v2"} and len(ml.nodes()) == 3
    finally:
        ml.cacheversionset("pred", None)


def test_a_pipeline_goes_to_every_node(ml):
    pipeline = ml.client.pipeline()
    replies = [pipeline.ratelimit(key, 5, 60) for key in KEYS]
    many = pipeline.cachemget(KEYS, "v1")
    ml.answer(pipeline.execute())
    assert [reply.value.granted for reply in replies] == [1] * len(KEYS)
    assert len(many.value) == len(KEYS)


def test_a_slot_that_moves_is_followed(ml, cluster_port):
    """MOVED and ASK: the slot of a key goes from its primary to another, and back."""
    with redis.RedisCluster(host="127.0.0.1", port=cluster_port, protocol=2) as admin:
        slot = admin.keyslot("moving:1")
        source = admin.get_node_from_key("moving:1")
        target = next(node for node in admin.get_primaries() if node != source)
        ids = {node: admin.cluster_myid(node).decode() for node in (source, target)}
        assert ml.ratelimit("moving:1", 5, 60).granted == 1

        def move(giver, taker):
            there, here = taker.redis_connection, giver.redis_connection
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[giver])
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[taker])
            # The key goes first: whoever asks the old node for it is sent on with ASK.
            here.execute_command("MIGRATE", "127.0.0.1", taker.port, "moving:1", 0, 5000)
            asked = ml.ratelimit("moving:1", 5, 60)
            # The taker first: until it claims the slot, others may give it back to the giver.
            for node in sorted(admin.get_primaries(), key=lambda node: node != taker):
                with contextlib.suppress(redis.ResponseError):
                    node.redis_connection.execute_command(
                        "CLUSTER", "SETSLOT", slot, "NODE", ids[taker])  # fmt: skip
            moved = ml.ratelimit("moving:1", 5, 60)
            until(lambda: nodes_agree(cluster_port))
            return asked, moved

        asked, moved = move(source, target)
        assert (asked.remaining, moved.remaining) == (3, 2)
        asked, moved = move(target, source)
        assert (asked.remaining, moved.remaining) == (1, 0)


def test_what_a_call_waits_in_one_slot_is_no_time_of_the_next(ml, cluster_port):
    """A time-out shorter than the wait: of all nodes asked, each still has all of it."""
    short = ClusterCaller(f"redis://127.0.0.1:{cluster_port}", ml.loop is not None, timeout=1.5)
    held = ml.admit({"gpu:1": Permit(1)}, hold=60)
    assert short.limitinfo("user:rpm") is short.limitinfo("late") is None  # Connected by now.
    items = {"user:rpm": Limit(10, 60), "gpu:1": Permit(1), "late": Limit(10, 60)}
    denied = short.admit(items, hold=60, wait=2.5)
    assert not denied and denied.binding == "gpu:1"
    # Whoever waited in vain gives back what the slots before had granted.
    assert ml.limitinfo("user:rpm") is None
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(short.admit, items, hold=60, wait=20)
        with mlserve.Client.cluster(f"redis://127.0.0.1:{cluster_port}") as other:
            until_waiting(waiting, other, "gpu:1")
            time.sleep(2)  # The wait is what is tried: longer than the time-out.
            assert other.settle(["gpu:1"], held.id) == [True]
        assert waiting.result(), "the slots after the one that waited are asked in time"
    assert ml.limitinfo("late").windows[0].used == 1
    short.close()


def test_what_is_cached_in_several_slots(cached_by, cluster_port):  # noqa: F811
    cached = cached_by(f"redis://127.0.0.1:{cluster_port}", of="cluster")
    name = uuid.uuid4().hex
    asked = []

    @cached(name, batch=True, lease=30)
    def scores(texts):
        asked.append(texts)
        return [text.upper() for text in texts]

    score = cached(name, lease=30)(lambda text: asked.append(text))
    texts = [f"text {number}" for number in range(60)]
    wanted = [text.upper() for text in texts]
    assert scores(texts[:40]) == wanted[:40]
    assert scores(texts) == wanted
    assert [score(text) for text in texts[:5]] == wanted[:5]
    assert asked == [texts[:40], texts[40:]]

    @cached(name, batch=True, lease=30)
    def failing(texts):
        raise ZeroDivisionError

    more = [f"more {number}" for number in range(40)]
    with pytest.raises(ZeroDivisionError):
        failing(more)
    assert scores(more) == [text.upper() for text in more]  # At once: no lease is left.


# --- a primary that fails over ---------------------------------------------------


class Nodes:
    """The nodes that scripts/cluster started, from this port on."""

    def __init__(self, cluster_port):
        self.ports = range(cluster_port, cluster_port + NODES)
        self.admins = {port: redis.Redis(port=port, decode_responses=True) for port in self.ports}

    def serving(self, key):
        """The ports of the primary of a key and of its replica."""
        for port, admin in self.admins.items():
            found = admin.info("replication")
            with contextlib.suppress(redis.ResponseError):
                if found["role"] == "master" and admin.exists(key) is not None:
                    return port, found["slave0"]["port"]
        raise AssertionError(f"nobody serves {key}")

    def whole(self):
        """Whether the nodes agree, and each replica has its primary's data."""
        if not nodes_agree(self.ports[0]):
            return False
        for admin in self.admins.values():
            found = admin.info("replication")
            if found.get("master_link_status", "up") != "up":
                return False
            if found["role"] == "master" and not found["connected_slaves"]:
                return False
        return True

    def is_primary(self, port):
        return self.admins[port].info("replication")["role"] == "master"

    def fail_over(self, replica):
        """Asks a replica to take its primary's place, again where it gave up: after 5 s."""
        for _ in range(4):
            with contextlib.suppress(redis.ResponseError):  # That it is none, by now.
                self.admins[replica].execute_command("CLUSTER FAILOVER")
            with contextlib.suppress(AssertionError):
                return until(lambda: self.is_primary(replica), seconds=8)
        return None

    def start_again(self, port, executable, module):
        """Starts a node that was killed, as scripts/cluster did, and has it stopped by it."""
        directory = ROOT / f"target/cluster/{port}"
        command = [executable, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
        command += ["--save", "", "--cluster-enabled", "yes", "--cluster-port", str(port + NODES)]
        command += ["--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"]
        command += ["--loadmodule", str(module)]
        subprocess.run(["setsid", "--fork", *command], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, check=True)  # fmt: skip
        admin = self.admins[port]
        until(lambda: answers(admin), PATIENCE)
        (directory / "pid").write_text(f"{admin.info('server')['process_id']}\n")


@pytest.fixture
def nodes(cluster_port):
    nodes = Nodes(cluster_port)
    for admin in nodes.admins.values():
        # Who stalls for longer is failed over too: it is no matter, as roles are looked up. It is
        # this short as for twice as long nobody votes on the same primary again, and a replica
        # takes the votes of its last election for those of the next, whose epoch is then too old.
        admin.config_set("cluster-node-timeout", 1000)
        admin.config_set("shutdown-timeout", 0)
    until(nodes.whole, PATIENCE)
    for admin in nodes.admins.values():
        with contextlib.suppress(redis.ReadOnlyError):
            admin.flushall()
    yield nodes
    for admin in nodes.admins.values():
        admin.config_set("cluster-node-timeout", 15_000)
        admin.close()


@pytest.mark.parametrize("how", ["asked", "killed"])
def test_a_primary_of_a_cluster_that_fails_over(nodes, kind, how, module, capsys):  # noqa: F811
    primary, replica = nodes.serving(Trial.KEYS[0])
    about = nodes.admins[primary].info("server")
    urls = [f"redis://127.0.0.1:{port}" for port in (primary, replica)]
    try:
        with trial(kind, lambda maker: maker.cluster(*urls, timeout=TIMEOUT)) as tried:
            if how == "asked":
                nodes.fail_over(replica)
            else:
                os.kill(about["process_id"], signal.SIGKILL)
            until(lambda: nodes.is_primary(replica), PATIENCE)
            until(lambda: serves_all(nodes.admins[replica]), PATIENCE)
            back_at = time.monotonic()
            for load in tried.loads:
                load.until_answered()
            # What was granted and not replicated yet is lost with the primary.
            name = f"failed over in a cluster ({how}), {kind[1].__name__}"
            tried.judge(capsys, name, back_at, lasting=False)
    finally:
        if how == "killed":
            nodes.start_again(primary, about["executable"], module)
        until(nodes.whole, PATIENCE)
