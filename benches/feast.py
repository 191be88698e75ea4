"""The family `feast`: what a caller of Feast waits for, with Feast's own Redis store and with
ours, both on one server; and for the same features as a numpy array, past protobuf, from
either. Feast has an environment of its own, target/feast: there `python -m benches.feast`
measures."""

import json
import subprocess
import sys

from .figures import Figures
from .server import ROOT

PYTHON = ROOT / "target/feast/bin/python"
THEIRS, OURS, TENSOR = "Feast's Redis store", "mlserve.feast", "get_online_tensor"
LAYOUT = "get_online_tensor of what Feast's Redis store wrote"
ENTITIES = (1, 50, 200)
FLOATS = "50 floats"
# Feast's published figures are of this shape.
VIEWS, OF_EACH = (1, 5, 10, 20), 3


def name(entities, features):
    return f"{entities} entities of {features}"


def family(server, options):
    asked = [str(server.port), str(options.rounds), str(max(options.calls // 1000, 1))]
    subprocess.run(["bash", "-euc", ". scripts/lib.sh; feast_venv >&2"], cwd=ROOT, check=True)
    outcome = subprocess.run([PYTHON, "-m", "benches.feast", *asked], cwd=ROOT, check=True,
                             text=True, stdout=subprocess.PIPE)
    return [Figures(**figures) for figures in json.loads(outcome.stdout)]


def stores(port, directory):
    """Feast with either online store, with the same features in both."""
    import datetime
    import warnings

    import numpy
    import pandas
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Bool, Float32, Float64, Int64, String

    warnings.simplefilter("ignore")
    random = numpy.random.default_rng(1)
    now = datetime.datetime.now(datetime.timezone.utc)
    count = max(ENTITIES)
    source = FileSource(path=f"{directory}/none.parquet", timestamp_field="at")
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)

    def of(type):
        numbers = random.random(count)
        return {Float32: numbers.astype("f4"), Float64: numbers, Bool: numbers < 0.5,
                Int64: random.integers(0, 2**40, count), String: numbers.astype(str)}[type]

    def view(view_name, types):
        """A view, and what is written to it."""
        columns = {f"{view_name}_{number}": type for number, type in enumerate(types)}
        schema = [Field(name=column, dtype=type) for column, type in columns.items()]
        made = FeatureView(name=view_name, entities=[driver], source=source,
                           schema=[Field(name="driver_id", dtype=Int64), *schema],
                           ttl=datetime.timedelta(days=1))
        frame = pandas.DataFrame({"driver_id": range(count), "at": [now] * count,
                                  **{column: of(type) for column, type in columns.items()}})
        return made, frame

    views = [view("floats", [Float32] * 50),
             view("mixed", [Float32, Float64, Int64, Bool, String] * 10),
             *(view(f"view{number}", [Float32] * OF_EACH) for number in range(max(VIEWS)))]
    for kind in ("redis", "mlserve.feast.MlserveOnlineStore"):
        config = RepoConfig(
            project="bench", provider="local", registry=f"{directory}/{kind}.db",
            offline_store={"type": "file"}, entity_key_serialization_version=3,
            online_store={"type": kind, "connection_string": f"127.0.0.1:{port}"})
        store = FeatureStore(config=config)
        store.apply([driver, *(made for made, _ in views)])
        for made, frame in views:
            store.write_to_online_store(made.name, frame)
        yield store


def groups():
    """The groups that are measured: their names, features, how many entities, and whether
    all are numbers."""
    for kind, numbers in (("floats", True), ("mixed", False)):
        features = [f"{kind}:{kind}_{number}" for number in range(50)]
        for count in ENTITIES:
            what = FLOATS if numbers else "50 floats, integers, booleans and strings"
            yield name(count, what), features, count, numbers
    for views in VIEWS:
        features = [f"view{view}:view{view}_{number}" for view in range(views)
                    for number in range(OF_EACH)]
        yield name(50, f"{OF_EACH} floats of each of {views} views"), features, 50, True


def main(port, rounds, calls):
    import functools
    import tempfile
    import time

    import numpy
    from mlserve.feast import get_online_tensor

    from .client import compared

    measured = []
    with tempfile.TemporaryDirectory() as directory:
        theirs, ours = stores(port, directory)
        for group, features, count, numbers in groups():
            asked = (features, [{"driver_id": number} for number in range(count)])
            ways = {THEIRS: functools.partial(theirs.get_online_features, *asked),
                    OURS: functools.partial(ours.get_online_features, *asked)}
            answered = ways[THEIRS]().to_dict()
            assert ways[OURS]().to_dict() == answered
            if numbers:
                for way, store in ((TENSOR, ours), (LAYOUT, theirs)):
                    ways[way] = functools.partial(get_online_tensor, store, *asked)
                    tensor = ways[way]()
                    for place, feature in enumerate(tensor.features):
                        assert numpy.array_equal(tensor.values[:, place],
                                                 numpy.array(answered[feature], "f4"))
            measured += compared("feast", group, ways, THEIRS, "time_ms", time.perf_counter, 1e3,
                                 calls, rounds)
    print(json.dumps([figures.as_dict() for figures in measured]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
