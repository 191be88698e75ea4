"""That the benchmark works: everything it measures, at sizes that measure nothing."""

import json
import os
import subprocess
import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT))

from benches import figures, report  # noqa: E402


def bench(*arguments):
    return subprocess.run([ROOT / "scripts/bench", *arguments], check=True, text=True,
                          capture_output=True, timeout=600).stdout


def test_every_family_measures_all_its_cases(tmp_path):
    families = ["ratelimit", "admission", "queue", "cache", "waiters", "features", "uses", "client",
                "feast", "scaling"]
    kept = tmp_path / "kept.json"
    server = os.environ.get("MLSERVE_SERVER", "redis-server")
    shown = bench(*families, "--tiny", "--rounds", "2", "--server", server, "--keep", kept)
    kept = json.loads(kept.read_text())
    assert kept["about"]["rounds"] == 2 and kept["about"]["server"]
    assert {figures["family"] for figures in kept["figures"]} == set(families)
    for figures in kept["figures"]:
        assert figures["rounds"], figures
        assert f"{figures['family']}: {figures['group']}" in shown
        assert figures["name"] in shown
        for values in figures["rounds"].values():
            assert values and all(isinstance(value, (int, float)) for value in values), figures
    names = {figures["name"] for figures in kept["figures"]}
    assert {"SET with EX", "ML.RATELIMIT", "Lua, GCRA", "tensor of rows", "1,000 callers"} <= names
    for aim in report.AIMS:  # Of cases that there are; redis-cell may be.
        assert {aim.case, aim.base} <= names | {"redis-cell"}


def test_a_pause_does_not_decide_what_comes_with_every_hundredth_call():
    times = [1.0] * 3_000
    times[100:150] = [90.0] * 50
    assert figures.percentiles(times) == {"p50_ms": 1.0, "p99_ms": 1.0}
    times[::99] = [7.0] * len(times[::99])
    assert figures.percentiles(times)["p99_ms"] == 7.0
    assert figures.percentiles([3.0, 1.0, 2.0], 3) == {"p50_ms": 2.0, "p99_ms": 3.0}


def test_a_family_that_is_none_is_named():
    outcome = subprocess.run([ROOT / "scripts/bench", "nothing"], text=True, capture_output=True,
                             check=False, timeout=600)
    assert outcome.returncode == 2
    assert "nothing" in outcome.stderr


def test_pairs_of_questions_and_chats_are_asked_of_a_server():
    done = subprocess.run(
        [sys.executable, "-m", "benches.pairs", "--few", "6"], cwd=ROOT, text=True,
        capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("\n\n")
    names = [table.strip() for table in tables if table.strip()[:1].isdigit()]
    assert len(names) == 5 and names[-1].endswith("what was said before in the scope")
    assert done.stdout.count("| HIT 0.95 |") == 5
