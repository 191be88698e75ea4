"""scripts/cluster starts a cluster, and redis-py's cluster client finds the keys."""

import numpy
import pytest
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException


@pytest.fixture
def cluster(cluster_port):
    with RedisCluster(host="127.0.0.1", port=cluster_port, protocol=2) as client:
        yield client


def test_every_command_goes_to_the_node_of_its_keys(cluster):
    for number in range(50):
        assert cluster.execute_command("ML.RATELIMIT", f"limit:{number}", 9, 60)[2] == 8
        assert cluster.execute_command("ML.CACHESET", f"cache:{number}", "v", number)
        assert cluster.execute_command("ML.CACHEGET", f"cache:{number}", "v") == b"%d" % number
        assert cluster.execute_command("ML.FEATURESET", f"row:{number}", "FIELDS", 1, "f", number)
        assert cluster.execute_command("ML.FEATURES", f"row:{number}", "f") == [b"%d" % number]


def test_keys_that_are_counted_are_found(cluster):
    for number in range(20):
        keys = [f"{{{number}}}:{key}" for key in range(3)]
        array = numpy.full((3, 2), number, "<f4")
        written = cluster.execute_command(
            "ML.FEATUREMSET", 3, *keys, array.tobytes(), "TYPE", "F32", "FIELDS", 2, "a", "b")
        assert written == [1, 1, 1]
        tensor = cluster.execute_command(
            "ML.FEATUREGET", 3, *keys, "FIELDS", 2, "b", "a", "AS", "TENSOR")
        assert tensor[3] == array.tobytes()
        limits = [f"{key}:limit" for key in keys]
        items = ["LIMIT", 5, 60] * 3
        admitted, hold, _, _, rows = cluster.execute_command(
            "ML.ADMIT", 3, *limits, *items, "HOLD", 60_000)
        assert admitted == 1 and [row[0] for row in rows] == [1, 1, 1]
        assert cluster.execute_command("ML.RENEW", 3, *limits, hold, 90_000) == [1, 1, 1]
        assert cluster.execute_command("ML.SETTLE", 3, *limits, hold) == [1, 1, 1]


def test_keys_of_several_slots_are_refused(cluster):
    with pytest.raises(RedisClusterException, match="slot"):
        cluster.execute_command("ML.FEATUREGET", 2, "a", "b", "FIELDS", 1, "f")
