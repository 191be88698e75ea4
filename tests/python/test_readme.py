"""The Python of README.md runs, and does what the README says."""

import re

import numpy
import pytest

from conftest import ROOT


class Model:
    """Stands for a scikit-learn classifier."""

    calls = 0

    def predict_proba(self, texts):
        self.calls += 1
        return numpy.array([[0.25, 0.75]] * len(texts))


def test_the_python_of_the_readme(port):
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 6
    code = "\n".join(blocks).replace("redis.Redis(", f"redis.Redis(port={port}, ")
    names = {}
    exec(code, names)
    names["client"].flushall()

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
