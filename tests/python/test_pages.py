"""The code of the documents runs, and does what they say."""

import subprocess
import sys

import numpy
import pytest
from starlette.testclient import TestClient

import pages
from conftest import ROOT, patient


class Model:
    """Stands for a scikit-learn classifier."""

    calls = 0

    def predict_proba(self, texts):
        self.calls += 1
        return numpy.array([[0.25, 0.75]] * len(texts))


def python_of(page):
    return [block for block in pages.blocks(page) if block.language == "python"]


def test_the_readme(start_server):
    blocks = python_of("README.md")
    assert len(blocks) == 6
    names = pages.run(blocks, start_server())

    assert names["allow_request"]("1", limit=1) == (True, 0)
    allowed, retry_after_ms = names["allow_request"]("1", limit=1)
    assert not allowed and 0 < retry_after_ms <= 60_000

    spent = [names["admitted"]("acme", "u7", 30_000, lambda: (9_000, "said")) for _ in range(2)]
    assert spent == ["said"] * 2  # At their estimates both would not fit.
    with pytest.raises(RuntimeError, match="{acme}:u7:tpm: again in"):
        names["admitted"]("acme", "u7", 30_000, None)
    with pytest.raises(ZeroDivisionError):
        names["admitted"]("acme", "u7", 20_000, lambda: 1 / 0)
    assert names["admitted"]("acme", "u7", 20_000, lambda: (0, "free")) == "free"

    model = Model()
    scores = [names["cached_score"](model, version, "great") for version in ["v1", "v1", "v2"]]
    assert scores == [[0.25, 0.75]] * 3 and model.calls == 2

    names["client"].hset("user:123", mapping={"avg_order": "84.50", "tier": "gold"})
    names["client"].execute_command(
        "ML.FEATURESET", "user:124", "FIELDS", 2, "avg_order", "84.50", "tier", "gold")
    for user in ["user:123", "user:124"]:
        answer = names["features"](user, ["tier", "avg_order", "country"])
        assert answer == ["gold", "84.50", None]


@pytest.mark.parametrize("page", ["docs/python.md", "clients/python/README.md"])
def test_the_python_package(page, start_server, module, monkeypatch):
    monkeypatch.setenv("MLSERVE_MODULE", str(module))
    blocks = python_of(page)
    assert blocks
    names = pages.run(blocks, start_server())
    if page == "docs/python.md":
        with TestClient(names["app"]) as web:
            assert web.get("/").json() == "in"
            answer = web.post("/chat", json={"prompt": "hello"})
            assert answer.json() == "an answer"
            assert 'r=38995' in answer.headers["RateLimit"]
            assert names["client"].limitinfo("{globex}:tokens").windows[0].used == 17
            assert web.post("/chat", json={"prompt": "x" * 39_900}).status_code == 429


COOKBOOK = pages.sections("docs/cookbook.md")


@pytest.mark.parametrize("section", COOKBOOK)
def test_the_cookbook(section, start_server, request):
    if section == "Cluster and hash tags":
        pages.run(COOKBOOK[section], request.getfixturevalue("cluster_port"), written=7000)
    else:
        pages.run(COOKBOOK[section], start_server())


def test_a_session_is_told_again_from_its_start(start_server):
    """What sequences and windows remember of an earlier run, and of the example, is none of it."""
    port = start_server()
    environment = patient(REDIS_URL=f"redis://127.0.0.1:{port}")
    subprocess.run([sys.executable, "examples/session.py"], cwd=ROOT, env=environment, check=True,
                   stdout=subprocess.DEVNULL, timeout=60)  # fmt: skip
    for _ in range(2):
        pages.run(COOKBOOK["A session"], port)


def test_the_cookbook_lists_its_sections():
    text = (pages.ROOT / "docs/cookbook.md").read_text()
    for section in COOKBOOK:
        anchor = section.lower().replace(",", "").replace(" ", "-")
        assert f"- [{section}](#{anchor})\n" in text


def test_an_answer_that_differs_fails(start_server):
    port = start_server()
    pages.typed("> PING\nPONG\n> ECHO a\n\"...\"\n", port)
    for text in ["> PING\nPANG\n", "> PING\n", "> PING\nPONG\nPONG\n"]:
        with pytest.raises(AssertionError, match="PONG"):
            pages.typed(text, port)
