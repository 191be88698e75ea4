"""`mlserve exporter`: INFO ml and ML.STATS as metrics, and the dashboard over them.

The queries of the dashboard are run by a Prometheus, of Debian's package `prometheus`
(scripts/test installs it).
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import pytest
from conftest import ROOT, free_port, servers
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import mlserve
from mlserve import exporter
from mlserve.readings import Nodes
from mlserve.server import Server

DASHBOARD = json.loads((ROOT / "packaging/grafana/mlserve.json").read_text())
QUERIES = [
    (panel["title"], target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]

NAMES = [f"{place}-{title}" for place, (title, _) in enumerate(QUERIES)]


@pytest.fixture(scope="module")
def server(module):
    with Server(module=str(module)) as server:
        yield server


def traffic(client):
    """Something of everything."""
    for _ in range(3):
        client.ratelimit("user:1", 2, 60)
    client.cacheversionset("pred", ["v1"])
    client.cacheset("pred:a", "v1", b"answer", ttl=60)
    for key in ["pred:a", "pred:b"]:
        client.cacheget(key, "v1")
    client.cachefetch("pred:c", "v1", lease=60)
    client.featureset("item:1", {"price": 1.5})
    client.features(["price", "colour"])(["item:1"])


def wait_once(client):
    """Two calls of which the second waits 20 ms."""
    for _ in range(2):
        assert client.admit({"gpu:1": mlserve.Limit(1, 0.02)}, wait=5).admitted


def families_of(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def scraped(*urls):
    """What a scrape tells of these nodes, by the name of the metric."""
    nodes = Nodes(urls, timeout=5)
    registry = CollectorRegistry()
    registry.register(exporter.Collector(nodes))
    try:
        return families_of(generate_latest(registry).decode())
    finally:
        nodes.close()


def value_of(families, name, **labels):
    family = families[name.removesuffix("_total")]
    (found,) = [
        sample.value
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return found


@pytest.mark.parametrize("name", list(servers()))
def test_every_field_of_info_has_its_line(running, name):
    with running(name).client() as plain:
        fields = {field.removeprefix("ml_") for field in plain.info("ml")}
    assert fields == set(exporter.INFO)
    assert exporter.GAUGES < set(exporter.INFO)


def test_every_count_of_stats_has_its_line(server):
    with mlserve.Client.from_url(server.url, timeout=5) as client:
        traffic(client)
        # A call that waits, so that this is told of as well.
        wait_once(client)
        stats = client.stats()
    for section, texts in exporter.SECTIONS.items():
        told = {name for counts in stats[section].values() for name in counts}
        assert told - {"most_denied", "versions"} <= set(texts)
    versions = stats["cache"][b"pred"]["versions"][b"pred"][b"v1"]
    assert set(versions) <= set(exporter.CACHE)


def test_metrics_are_what_the_server_counted(server):
    with server.client() as plain:
        plain.flushall()
        plain.execute_command("ML.STATS", "RESET")
    with mlserve.Client.from_url(server.url, timeout=5) as client:
        traffic(client)
    found = scraped(server.url)
    node = f"127.0.0.1:{server.port}"
    assert value_of(found, "mlserve_up", node=node) == 1
    assert value_of(found, "mlserve_stats_readable", node=node) == 1
    denied = value_of(found, "mlserve_namespace_limits_denied_total", namespace="user")
    assert denied == 1
    labels = {"node": node, "namespace": "pred", "version": "v1"}
    assert value_of(found, "mlserve_version_cache_hits_total", **labels) == 1
    assert value_of(found, "mlserve_namespace_features_missing_total", namespace="item") == 1
    assert value_of(found, "mlserve_cache_open_leases") == 1
    assert found["mlserve_cache_hits"].type == "counter"
    assert found["mlserve_cache_open_leases"].type == "gauge"
    assert found["mlserve_cache_hits"].documentation == exporter.INFO["cache_hits"]
    # Times are in seconds, as Prometheus has them.
    assert "mlserve_cache_saved_seconds" in found and "mlserve_cache_saved_ms" not in found
    # The keys are not told of: nothing bounds how many there are.
    assert "user:1" not in str(found)


def test_a_field_that_is_not_known_is_told_of_nevertheless():
    assert exporter.kind_of("of_tomorrow") is exporter.UnknownMetricFamily


def test_names_that_are_no_text_make_no_equal_series(server):
    with mlserve.Client.from_url(server.url, timeout=5) as client:
        for name in [b"\xff:1", b"\\xff:1", b'a"\n:1', b"\xfe\x00:1"]:
            client.ratelimit(name, 100, 60)
    samples = scraped(server.url)["mlserve_namespace_limits_allowed"].samples
    series = [tuple(sample.labels.items()) for sample in samples]
    assert len(series) == len(set(series)) and len(series) >= 4


def test_nodes_that_fail_are_down_and_the_others_are_told_of(server, module):
    absent = f"127.0.0.1:{free_port()}"
    nodes = [f"redis://{absent}", server.url]
    found = scraped(*nodes)
    assert value_of(found, "mlserve_up", node=absent) == 0
    assert value_of(found, "mlserve_up", node=f"127.0.0.1:{server.port}") == 1
    assert found["mlserve_cache_hits"].samples[0].labels["node"] == f"127.0.0.1:{server.port}"


def test_without_the_right_to_stats_info_is_told_of(server):
    with server.client() as plain:
        rules = ["on", ">secret", "~*", "+@all", "-ml.stats"]
        plain.execute_command("ACL", "SETUSER", "scraper", *rules)
    found = scraped(f"redis://scraper:secret@127.0.0.1:{server.port}")
    assert value_of(found, "mlserve_up") == 1
    assert value_of(found, "mlserve_stats_readable") == 0
    assert "mlserve_cache_hits" in found and "mlserve_namespace_cache_hits" not in found


@contextlib.contextmanager
def exporting(*urls):
    """The command, and the address of its metrics."""
    command = [sys.executable, "-m", "mlserve.cli", "exporter", "--port", str(free_port())]
    for url in urls:
        command += ["--url", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_the_command_outlives_a_node(module):
    server = Server(module=str(module), port=free_port()).start()
    try:
        with exporting(server.url) as address:
            assert value_of(families_of(get(address)), "mlserve_up") == 1
            server.stop()
            assert value_of(families_of(get(address)), "mlserve_up") == 0
            server.start()
            assert value_of(families_of(get(address)), "mlserve_up") == 1
    finally:
        server.stop()


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """A Prometheus that scrapes the exporter of a server with traffic; asks it a query."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail("there is no prometheus: install Debian's package")
    directory = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    stop = threading.Event()

    def call():
        with mlserve.Client.from_url(server.url, timeout=5) as client:
            while not stop.wait(0.05):
                traffic(client)
                wait_once(client)

    caller = threading.Thread(target=call)
    with exporting(server.url) as address:
        place = urllib.parse.urlsplit(address).netloc
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [
                {"job_name": "mlserve", "static_configs": [{"targets": [place]}]},
            ],
        }
        # JSON is YAML.
        (directory / "prometheus.yml").write_text(json.dumps(config))
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    program,
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        caller.start()
        try:
            yield lambda query: asked(port, query)
        finally:
            stop.set()
            caller.join()
            process.terminate()
            process.wait(timeout=20)


def asked(port, query):
    """The answer to a query, once there is one that is not empty."""
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    deadline = time.monotonic() + 30
    found = []
    while time.monotonic() < deadline:
        try:
            answer = json.loads(get(address))
        except urllib.error.HTTPError as error:
            if error.code in (400, 422):
                pytest.fail(f"{query}: {error.read().decode()}")
            continue
        except OSError:
            time.sleep(0.05)
            continue
        found = answer["data"]["result"]
        if found:
            break
        time.sleep(0.1)
    return found


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=NAMES)
def test_each_query_of_the_dashboard_has_an_answer(prometheus, title, query):
    ready = query.replace("$__rate_interval", "5s")
    ready = ready.replace("$node", ".*").replace("$namespace", ".*")
    assert "$" not in ready
    assert prometheus(ready), f"{title} is empty: {ready}"


def test_the_dashboard_asks_for_metrics_that_there_are(server):
    with mlserve.Client.from_url(server.url, timeout=5) as client:
        traffic(client)
        wait_once(client)
    names = {sample.name for family in scraped(server.url).values() for sample in family.samples}
    asked_for = set(re.findall(r"mlserve_\w+", " ".join(query for _, query in QUERIES)))
    assert asked_for <= names
