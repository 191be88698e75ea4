"""scripts/run as its user sees it, in a directory of its own."""

import re
import shlex
import subprocess

import pytest
import redis

from conftest import ROOT, free_port, patient, wait_for


@pytest.fixture
def run(module, tmp_path):
    """Calls scripts/run; whatever it leaves running ends with the test."""
    environment = patient(MLSERVE_RUN_DIR=str(tmp_path / "run"), MLSERVE_MODULE=str(module))

    def run(*options):
        return subprocess.run(
            [ROOT / "scripts/run", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )

    yield run
    run("--stop")


def address(output):
    return int(re.search(r"The server runs on 127\.0\.0\.1:(\d+)", output)[1])


def test_the_three_uses(run):
    done = run()
    assert done.returncode == 0, done.stdout
    port = address(done.stdout)

    # (a) a miss, a hit, and a new version that misses at once
    assert re.findall(r"^  (v\d)  (HIT|MISS)", done.stdout, re.M) == [
        ("v1", "MISS"),
        ("v1", "HIT"),
        ("v2", "MISS"),
        ("v2", "HIT"),
        ("v1", "HIT"),
    ]
    assert re.search(r"the model [\d.]+ ms, a hit [\d.]+ ms, \d+ to 1", done.stdout)
    # (b) the features, in order
    assert re.findall(r"^  (\w+) +(84\.5|12)$", done.stdout, re.M) == [
        ("avg_order", "84.5"),
        ("n_sessions", "12"),
    ]
    # (c) the limit
    assert "100 passed" in done.stdout
    refused = re.search(r"the 101st was refused: retry after ([\d.]+) s", done.stdout)
    assert 0 < float(refused[1]) <= 60
    # (d) the same by hand: what is measured, and who computes
    for what in ("a request let in, ms", "a user's features, ms", "a cached prediction, ms"):
        assert re.search(rf"^  {what} +[\d.]+ +[\d.]+$", done.stdout, re.M), done.stdout
    assert re.search(r"^  predictions where 20 miss one at once +\d+ +1$", done.stdout, re.M)

    # The server is left running, and what is there to try works.
    client = redis.Redis(port=port)
    assert client.ping()
    lines = re.findall(r"^  (redis-cli .*)$", done.stdout, re.M)
    answers = [subprocess.check_output(shlex.split(line), text=True).splitlines() for line in lines]
    cached, counted, features, rate = answers
    assert re.fullmatch(r"0\.\d+", cached[0])
    assert int(counted[counted.index("hits") + 1]) > 101
    assert features == ["84.50", "12", "gold"]
    assert [int(value) for value in rate][1] == 100

    # A second run takes the place of the first.
    again = run()
    assert again.returncode == 0, again.stdout
    assert "stopping the server that a former scripts/run left running" in again.stdout
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=port).ping()

    stopped = run("--stop")
    assert stopped.returncode == 0 and "has ended" in stopped.stdout
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=address(again.stdout)).ping()
    harmless = run("--stop")
    assert harmless.returncode == 0 and "no server" in harmless.stdout


def test_a_port_of_ones_own(run):
    port = free_port()
    done = run("--port", str(port))
    assert done.returncode == 0, done.stdout
    assert address(done.stdout) == port


def test_a_port_that_is_taken(run, port):
    done = run("--port", str(port))
    assert done.returncode == 1
    assert "did not start" in done.stdout and "Address already in use" in done.stdout
    assert wait_for(port).ping(), "the server that has the port is left alone"


@pytest.mark.parametrize("options", [["--port"], ["--port", "x"], ["--stop", "now"], ["--what"]])
def test_unknown_options_are_refused(run, options):
    done = run(*options)
    assert done.returncode == 2
    assert "usage: scripts/run" in done.stdout
