"""scripts/run as its user sees it, in a directory of its own."""

import os
import re
import shlex
import subprocess

import pytest
import redis

from conftest import ROOT, free_port, wait_for


@pytest.fixture
def run(module, tmp_path):
    """Calls scripts/run; whatever it leaves running ends with the test."""
    environment = {**os.environ, "MLSERVE_RUN_DIR": str(tmp_path / "run"), "MLSERVE_MODULE": str(module)}

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
    assert re.search(r"the model [\d.]+ ms, a hit [\d.]+ ms, [\d.]+ to 1", done.stdout)
    # (b) the features, in order
    assert re.findall(r"^  (\w+) +(gold|84\.50|12|None)$", done.stdout, re.M) == [
        ("tier", "gold"),
        ("avg_order", "84.50"),
        ("n_sessions", "12"),
        ("country", "None"),
    ]
    # (c) the limit
    assert "100 passed" in done.stdout
    assert 0 < int(re.search(r"the 101st was refused: retry after (\d+) ms", done.stdout)[1]) <= 60_000

    # The server is left running, and what is there to try works.
    client = redis.Redis(port=port)
    assert client.ping()
    lines = re.findall(r"^  (redis-cli .*)$", done.stdout, re.M)
    answers = [subprocess.check_output(shlex.split(line), text=True).splitlines() for line in lines]
    cached, features, rate = answers
    assert re.fullmatch(r"\[0\.\d+, 0\.\d+\]", cached[0])
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
