"""A private Redis with the release module, for the tests of a session.

Wants the module at target/release/libmlserve.so (`cargo build --release`), or
where MLSERVE_MODULE says.
"""

import contextlib
import os
import random
import runpy
import shutil
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

ROOT = Path(__file__).resolve().parents[2]
MODULE = Path(os.environ.get("MLSERVE_MODULE", ROOT / "target/release/libmlserve.so")).resolve()
# What wants an older library as well: see there.
collect_ignore = [] if os.environ.get("MLSERVE_OLD_MODULE") else ["test_package_upgrade.py"]
# Feast has an environment of its own: see scripts/test.
collect_ignore += [] if find_spec("feast") else ["test_adapter_feast.py"]
# With its patience, tests use clients as others do, who name no time-out.
PATIENT = Path(__file__).parent / "patient"
runpy.run_path(str(PATIENT / "sitecustomize.py"))
# Its assertions are as good as those of tests.
pytest.register_assert_rewrite("upgrade")


def patient(**more):
    """The environment of a program that uses mlserve, and is to be as patient as the tests."""
    path = [str(PATIENT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}


def free_port():
    """A free port, with room above it for that of a cluster's bus, which is 10,000 higher."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port + 10_000 < 2**16:
            return port


def wait_for(port, process=None, seconds=20):
    """Waits until a server answers on the port, and returns a client of it."""
    client = redis.Redis(port=port)
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.ping()
            return client
        except redis.ConnectionError:
            if process is not None and process.poll() is not None:
                pytest.fail("the server did not start: see its log")
            if time.monotonic() > deadline:
                pytest.fail(f"no server answers on port {port}")
            time.sleep(0.05)


def until(condition, seconds=20):
    """Waits for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.01)


def until_waiting(call, client, key):
    """Waits until a call, a future, waits in the server at a key."""
    until(lambda: call.done() or client.limitinfo(key).waiters)
    assert not call.done(), call.result()


@pytest.fixture(scope="session")
def module():
    if not MODULE.is_file():
        pytest.fail(f"there is no module at {MODULE}: run `cargo build --release` first")
    return MODULE


@pytest.fixture(scope="session")
def start_server(module, tmp_path_factory):
    """Starts a server, with these lines of redis.conf; it ends with the session."""
    started = []

    def start(config=f"loadmodule {module}\nsave ''\n"):
        directory = tmp_path_factory.mktemp("redis")
        port = free_port()
        (directory / "redis.conf").write_text(config)
        command = ["redis-server", str(directory / "redis.conf"), "--bind", "127.0.0.1"]
        command += ["--port", str(port), "--dir", str(directory)]
        with open(directory / "log", "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        started.append(process)
        wait_for(port, process)
        return port

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=20)


@pytest.fixture(scope="session")
def port(start_server):
    return start_server()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(port, request):
    """A client by either protocol, of an empty server."""
    client = redis.Redis(port=port, protocol=request.param)
    client.flushall()
    yield client
    client.close()


def servers():
    """The servers of scripts/servers that are here, by name; else that of the system."""
    found = {}
    gathered = ROOT / "target/servers/list"
    if gathered.is_file():
        for line in gathered.read_text().splitlines():
            name, version, path = line.split("\t")
            if version != "skipped" and Path(path).is_file():
                found[name] = path
    return found or {"redis": shutil.which("redis-server")}


@pytest.fixture(scope="session")
def running(module):
    """Starts a server of this name, once a session, and returns it."""
    from mlserve.server import Server

    started = {}

    def running(name):
        if name not in started:
            server = Server(server=servers()[name], module=str(module))
            started[name] = server.start()
        return started[name]

    yield running
    for server in started.values():
        server.stop()


@pytest.fixture(scope="session")
def server(running):
    """The server for tests that one is enough for."""
    return running(next(iter(servers())))


def free_ports(count):
    """The first of so many ports in a row that nobody listens on."""
    for _ in range(100):
        first = random.randrange(20_000, 30_000)
        held = []
        try:
            for port in range(first, first + count):
                held.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
    pytest.fail("no free ports")


@pytest.fixture(scope="session")
def running_cluster(module):
    """The first port of a cluster that scripts/cluster has started, once a session."""
    script, port = ROOT / "scripts/cluster", free_ports(12)
    started = subprocess.run(
        [script, "--port", str(port)],
        env={**os.environ, "MLSERVE_MODULE": str(module)},
        capture_output=True, text=True, timeout=120)  # fmt: skip
    assert started.returncode == 0, started.stdout + started.stderr
    assert "user:123 has gold 84.50" in started.stdout
    yield port
    stopped = subprocess.run([script, "--stop"], capture_output=True, text=True, timeout=60)
    assert stopped.returncode == 0, stopped.stderr
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=port).ping()


NODES = 6  # That scripts/cluster starts.

# Seconds for those that agree on a primary to come to terms, on a machine that stalls.
PATIENCE = 90


def serves_all(node):
    """Whether a node of a cluster finds all slots served."""
    return node.execute_command("CLUSTER INFO")["cluster_state"] == "ok"


def nodes_agree(first_port):
    """Whether the nodes of a cluster say the same of who serves which slots, by which claim.

    Only then may a slot be moved: a node that has not heard of the newest claim (its epoch)
    makes an older one, which the others do not believe, and the slot is lost.
    """
    views = set()
    for port in range(first_port, first_port + NODES):
        with redis.Redis(port=port, decode_responses=True) as node:
            if not serves_all(node):
                return False
            known = node.execute_command("CLUSTER NODES").values()
        if not all(one["connected"] for one in known):
            return False
        views.add(frozenset(
            (one["node_id"], one["master_id"], one["epoch"], str(one["slots"]),
             str(one["migrations"]), "fail" in one["flags"]) for one in known))  # fmt: skip
    return len(views) == 1


@pytest.fixture
def cluster_port(running_cluster):
    """The first port of a cluster that is empty, and whose nodes agree."""
    # After a failover, or a slot that moved, they take a moment.
    until(lambda: nodes_agree(running_cluster), PATIENCE)
    with RedisCluster(host="127.0.0.1", port=running_cluster) as client:
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
    return running_cluster


@pytest.fixture
def url(server):
    """The address of an empty server."""
    with contextlib.closing(server.client()) as client:
        client.flushall()
    return server.url


@pytest.fixture
def start():
    """Starts servers with a library and a directory, that end with the test."""
    import upgrade

    started = []

    def start(*arguments):
        started.append(upgrade.Server(*arguments))
        return started[-1]

    yield start
    for server in started:
        server.end()
