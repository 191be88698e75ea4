"""That the benchmark works: everything it measures, at sizes that measure nothing."""

import json
import os
import struct
import subprocess
import sys
from collections import Counter

import numpy
import pytest
from conftest import ROOT, patient

sys.path.insert(0, str(ROOT))

from benches import figures, report, semantic  # noqa: E402
from benches.__main__ import FAMILIES  # noqa: E402
from benches.embeddings import Embeddings  # noqa: E402
from benches.request.mix import DENIED, HIT, LIMIT, MISS, Mix  # noqa: E402
from benches.request.players import check  # noqa: E402
from benches.request.ways import AT_ONCE, SERVE, WAYS  # noqa: E402

IN_ONE_TRIP = ("by hand, in one pipeline", AT_ONCE, SERVE)


def bench(*arguments):
    return subprocess.run([ROOT / "scripts/bench", *arguments], check=True, text=True,
                          capture_output=True, timeout=600, env=patient()).stdout


def test_every_family_measures_all_its_cases(tmp_path):
    # All but those that count instructions, by a program that need not be there.
    families = [family for family in FAMILIES if family != "instructions"]
    kept = tmp_path / "kept.json"
    server = os.environ.get("MLSERVE_SERVER", "redis-server")
    shown = bench(*families, "--tiny", "--million", "--rounds", "2", "--server", server, "--keep", kept)
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
    for aim in report.AIMS:  # Of cases that there are; these may be.
        assert {aim.case, aim.base or aim.case} <= names | {"redis-cell", "VADD"}


REQUESTS = Mix(400, 20, 10).requests


def test_requests_are_as_many_of_each_ending_as_the_mix_says():
    assert Counter(request.ending for request in REQUESTS) == {DENIED: 20, HIT: 280, MISS: 100}
    asked = Counter(request.digest for request in REQUESTS if request.ending == MISS)
    assert len(asked) == 100, "what is not known is asked once"



def answers(request):
    """What the server answers to the commands of a request."""
    granted = request.ending != DENIED
    limit = [int(granted), LIMIT, 0, 0, 9]
    hit = isinstance(request.result, bytes)
    fetch = [b"HIT", request.result, None, 9] if hit else [b"LEASE", None, request.trace.encode(), 9]
    values = request.result if request.ending == MISS else []
    tensor = [b"F32", 1, len(values), struct.pack(f"<{len(values)}f", *values), b""]
    return {
        "INCR": 5 if granted else LIMIT + 1, "EXPIRE": 0, "EVALSHA": int(granted),
        "GET": request.result if hit else None, "HMGET": [str(value).encode() for value in values],
        "ML.RATELIMIT": limit, "ML.CACHEFETCH": fetch, "ML.FEATUREGET": tensor, "ML.CACHERELEASE": 1,
        "ML.SERVE": [[int(granted), None, 0, None, [limit]], fetch if granted else None,
                     tensor if request.ending == MISS else None],
    }


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("ending", [DENIED, HIT, MISS])
def test_a_request_ends_as_the_server_says_in_as_many_trips_as_it_takes(name, ending):
    request = next(request for request in REQUESTS if request.ending == ending)
    trips = []

    def ask(trip):
        trips.append([words[0] for words in trip])
        return [answers(request)[words[0]] for words in trip]

    check([request], [WAYS[name].driven(ask)(request)])
    in_trips = {DENIED: 1, HIT: 2, MISS: 3}[ending]
    released = name == AT_ONCE and ending == DENIED
    in_one = 1 + released
    assert len(trips) == (in_one if name in IN_ONE_TRIP else in_trips)
    # Denied, but leased: nobody else may wait for an answer that does not come.
    assert (["ML.CACHERELEASE"] in trips) == released


@pytest.mark.parametrize("outcome", [(HIT, b"another answer"), (DENIED, None), (MISS, [0.5])])
def test_a_request_that_ends_otherwise_than_it_was_to_is_no_measurement(outcome):
    request = next(request for request in REQUESTS if request.ending == HIT)
    with pytest.raises(AssertionError):
        check([request], [outcome])


def test_a_pause_does_not_decide_what_comes_with_every_hundredth_call():
    times = [1.0] * 3_000
    times[100:150] = [90.0] * 50
    assert figures.percentiles(times) == {"p50_ms": 1.0, "p99_ms": 1.0}
    times[::99] = [7.0] * len(times[::99])
    assert figures.percentiles(times)["p99_ms"] == 7.0
    assert figures.percentiles([3.0, 1.0, 2.0], 3) == {"p50_ms": 2.0, "p99_ms": 3.0}


def test_the_help_tells_of_every_family():
    told = [line.split()[1] for line in (ROOT / "scripts/bench").read_text().splitlines()
            if line.startswith("#   ") and line[4:5].strip()]
    assert tuple(told) == FAMILIES


def test_embeddings_lie_as_those_of_questions_do():
    vectors = Embeddings(384, topics=150).more(1_500)
    assert (vectors == Embeddings(384, topics=150).more(1_500)).all()
    assert numpy.allclose(numpy.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosines = vectors @ vectors.T
    others = cosines[~numpy.eye(len(vectors), dtype=bool)]
    assert 0.07 < others.mean() < 0.11 and 0.08 < others.std() < 0.12
    nearest = numpy.sort(others.reshape(len(vectors), -1).max(axis=1))
    assert 0.5 < nearest[len(nearest) // 2] < 0.8 and nearest[-1] > 0.9
    embeddings = Embeddings(384)
    vectors = embeddings.more(100)
    reworded = numpy.einsum("ij,ij->i", vectors, embeddings.reworded(vectors))
    assert 0.955 < reworded.min() and reworded.max() < 0.985


def kept(path, *several, others=0.0):
    about = {"server": "Redis 1.2.3", "machine": "a machine", "commit": "abc", "rounds": 3,
             "command": "scripts/bench --keep x", "others": others}
    path.write_text(json.dumps({"about": about, "figures": [one.as_dict() for one in several]}))


def test_a_part_of_the_page_that_nothing_is_kept_of_stays_as_it_is(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- semantic -->\nold\n<!-- end of semantic -->\nb\n"
                    "<!-- cache -->\nof others\n<!-- end of cache -->\nc\n")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "KEPT", tmp_path)
    monkeypatch.setattr(report, "BESIDE", tmp_path / "all")
    group = semantic.title(semantic.MEMORY, 384, 100_000)
    figure = figures.Figures("semantic", group, semantic.SEMSET)
    figure.add(entry_bytes=800)
    # The base has no such figure: it does not ask the server.
    hits = semantic.title(semantic.HITS, 384, 100_000)
    alone = figures.Figures("semantic", hits, semantic.ALONE, semantic.ALONE)
    asked = figures.Figures("semantic", hits, semantic.SEMGET, semantic.ALONE)
    alone.add(time_ms=4)
    asked.add(time_ms=1, cpu_us=700)
    kept(tmp_path / "redis.json", figure, alone, asked, others=1.26)
    report.write()
    text = page.read_text()
    assert "\nof others\n" in text and "\nold\n" not in text
    assert "busy: others kept 1.3 of its cores at work" in text
    # An aim at a figure itself, and not at a ratio; of aims that nothing is known of, nothing.
    assert "| ML.SEMGET | 1.000 = 0.25 [0.25, 0.25] × |" in text and "| ML.SEMGET | 700.00 |" in text
    assert "800.00 [800.00, 800.00], met | ≤ 803 |" in text and "redis-cell" not in text
    assert [text.count(mark) for mark in ("semantic -->", "cache -->")] == [2, 2]
    beside = (tmp_path / "all/redis.md").read_text()
    assert beside.startswith("# semantic, Redis 1.2.3\n") and group in beside
    assert f"\n{report.RATIOS}\n\n## semantic" in beside

    kept(tmp_path / "redis.json", figures.Figures("cache", "g", "GET", rounds={"cpu_us": [1]}))
    report.write()
    assert "of others" not in page.read_text() and "800.00" in page.read_text()


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
