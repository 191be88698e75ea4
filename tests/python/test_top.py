"""`mlserve top`: what servers do, as the difference of two readings."""

import io
import json
import subprocess
import sys
import time

import pytest
from conftest import free_port, wait_for

import mlserve
from mlserve import top
from mlserve.readings import Nodes, shown
from mlserve.server import Server


@pytest.fixture(scope="module")
def server(module):
    with Server(module=str(module)) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as plain:
        plain.flushall()
        plain.execute_command("ML.STATS", "RESET")
    with mlserve.Client.from_url(server.url, timeout=5) as client:
        yield client


def traffic(client):
    """5 calls of a limit of 2, 3 hits and a miss, an open lease, 4 features and a missing one."""
    for _ in range(5):
        client.ratelimit("user:1", 2, 60)
    client.cacheset("pred:a", "v1", b"answer", ttl=60)
    for key in ["pred:a", "pred:a", "pred:a", "pred:b"]:
        client.cacheget(key, "v1")
    client.cachefetch("pred:c", "v1", lease=60)
    client.featureset("item:1", {"price": 1.5, "stock": 2})
    features = client.features(["price", "stock"])
    features(["item:1"])
    features(["item:1"])
    client.featuretensor(["item:1"], ["colour"])


def report_of(urls, between):
    nodes = Nodes(urls, timeout=5)
    try:
        before = nodes.read()
        between()
        after = nodes.read()
    finally:
        nodes.close()
    seconds = after[0].at - before[0].at
    return top.compared(before, after), seconds


def counted(row, seconds):
    """Rates as what was counted in the time."""
    return {
        name.removesuffix("_per_s"): round(value * seconds, 3)
        for name, value in row.items()
        if name.endswith("_per_s")
    }


def test_rates_are_what_happened_between_two_readings(server, client):
    traffic(client)
    report, seconds = report_of([server.url], lambda: traffic(client))
    (node,) = report.nodes
    assert node["state"] == "up" and node["node"] == f"127.0.0.1:{server.port}"
    found = counted(node, seconds)
    # The limit of 2 is used up by the traffic before.
    assert found["allowed"] == 0 and found["denied"] == 5
    assert found["hits"] == 3 and found["misses"] >= 1
    assert found["features"] == 4 and found["missing"] == 1
    assert node["leases"] == 1 and node["queue"] == 0
    spaces = {row["namespace"]: counted(row, seconds) for row in report.namespaces}
    assert spaces["user"]["denied"] == 5
    assert spaces["pred"]["hits"] == 3
    assert spaces["item"]["features"] == 4 and spaces["item"]["missing"] == 1
    assert report.most_denied == [{"node": node["node"], "key": "user:1", "denied": 8}]


def test_a_reset_between_two_readings_makes_no_negative_rate(server, client):
    traffic(client)

    def between():
        client.stats(reset=True)
        client.ratelimit("user:1", 2, 60)

    report, seconds = report_of([server.url], between)
    spaces = {row["namespace"]: counted(row, seconds) for row in report.namespaces}
    assert spaces["user"]["denied"] == 1
    assert all(value >= 0 for row in spaces.values() for value in row.values())


def test_a_restart_between_two_readings_makes_no_negative_rate(module):
    port = free_port()
    server = Server(module=str(module), port=port).start()
    try:
        with mlserve.Client.from_url(server.url, timeout=5) as client:
            traffic(client)

            def between():
                server.stop()
                server.start()
                # More than before: only the process tells that it counts anew.
                for _ in range(9):
                    client.ratelimit("user:2", 100, 60)

            report, seconds = report_of([server.url], between)
    finally:
        server.stop()
    (node,) = report.nodes
    assert node["state"] == "restarted"
    assert counted(node, seconds)["allowed"] == 9
    assert min(counted(node, seconds).values()) >= 0
    assert counted(report.namespaces[0], seconds)["allowed"] == 9


def test_a_node_that_is_not_there_is_shown_as_such_beside_the_others(server, client):
    absent = f"redis://127.0.0.1:{free_port()}"
    report, _ = report_of([absent, server.url], lambda: traffic(client))
    assert [node["state"] for node in report.nodes] == ["unreachable", "up"]
    assert any(absent.removeprefix("redis://") in note for note in report.notes)


def test_without_the_right_to_stats_info_is_shown_and_it_is_said(server, client):
    with server.client() as plain:
        rules = ["on", ">secret", "~*", "+@all", "-ml.stats"]
        plain.execute_command("ACL", "SETUSER", "looker", *rules)
    url = f"redis://looker:secret@127.0.0.1:{server.port}"
    report, seconds = report_of([url], lambda: traffic(client))
    assert counted(report.nodes[0], seconds)["hits"] == 3
    assert report.namespaces == []
    (note,) = report.notes
    assert "ML.STATS is not allowed" in note


def test_a_server_without_the_module_is_no_error():
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process).close()
        report, _ = report_of([f"redis://127.0.0.1:{port}"], lambda: None)
    finally:
        process.terminate()
        process.wait()
    assert report.nodes[0]["state"] == "unreachable"
    assert "module is not loaded" in report.notes[0]


def test_the_nodes_of_a_cluster_are_found_by_one_of_them(module):
    settings = {"cluster-enabled": "yes"}
    with (
        Server(module=str(module), settings=settings, port=free_port()) as one,
        Server(module=str(module), settings=settings, port=free_port()) as two,
    ):
        with one.client() as a, two.client() as b:
            a.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
            b.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
            a.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)
            deadline = time.monotonic() + 60
            while len(a.execute_command("CLUSTER", "SLOTS")) < 2:
                assert time.monotonic() < deadline, "the nodes do not meet"
        report, _ = report_of([one.url, two.url], lambda: None)
    names = {node["node"] for node in report.nodes}
    assert names == {f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"}
    assert len(report.nodes) == 2


def test_names_that_would_command_a_terminal_are_escaped(server, client):
    client.ratelimit(b"\x1b[2J[red]:1", 100, 60)
    report, _ = report_of([server.url], lambda: client.ratelimit(b"\x1b[2J[red]:1", 100, 60))
    from rich.console import Console

    console = Console(file=io.StringIO(), width=200)
    console.print(top.picture(report))
    text = console.file.getvalue()
    assert "\x1b" not in text and r"\x1b[2J[red]" in text
    assert shown(b"\\x1b") != shown(b"\x1b")


def run_top(*words):
    command = [sys.executable, "-m", "mlserve.cli", "top", "--interval", "0.2", "--timeout", "10"]
    command += words
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_plain_lines_where_there_is_no_terminal(server, client):
    traffic(client)
    done = run_top("--url", server.url, "--once")
    assert done.returncode == 0 and done.stderr == ""
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"node node=127.0.0.1:{server.port} state=up allowed_per_s=")
    assert any(line.startswith("namespace node=") for line in rest)
    assert f"key node=127.0.0.1:{server.port} key=user:1 denied=3" in rest


def test_the_command_prints_json(server, client):
    traffic(client)
    done = run_top("--url", server.url, "--once", "--json")
    report = json.loads(done.stdout)
    assert report["nodes"][0]["leases"] == 1
    assert report["most_denied"][0]["key"] == "user:1"


def test_the_command_ends_with_1_where_no_node_answers():
    done = run_top("--url", f"redis://127.0.0.1:{free_port()}", "--once")
    assert done.returncode == 1
    assert "state=unreachable" in done.stdout and "Traceback" not in done.stderr


def test_the_command_names_a_url_that_is_none():
    done = run_top("--url", "http://127.0.0.1", "--once")
    assert done.returncode == 2
    assert "--url" in done.stderr and "Traceback" not in done.stderr
