"""redis.conf.example is one that a server really starts with."""

import re

import redis

from conftest import ROOT

DEFAULTS = {
    "ml.ratelimit-algorithm": "FIXED",
    "ml.limit-max-holds": "65536",
    "ml.limit-max-waiters": "65536",
    "ml.limit-max-waiter-bytes": "67108864",
    "ml.cache-ttl": "3600",
    "ml.cache-versions-per-key": "2",
    "ml.cache-max-value-bytes": "536870912",
    "ml.cache-max-namespaces": "1024",
    "ml.cache-max-leases": "65536",
    "ml.cache-max-lease-bytes": "67108864",
    "ml.cache-max-lease": "3600000",
    "ml.stats-max-namespaces": "256",
    "ml.features-max-values": "1000000",
    "ml.features-max-reply-bytes": "134217728",
    "ml.features-max-skew": "86400",
    "ml.features-max-lists": "1024",
    "ml.semantic-ttl": "3600",
    "ml.semantic-max-entries": "100000",
    "ml.semantic-max-bytes": "268435456",
    "ml.semantic-max-leases": "65536",
    "ml.semantic-max-lease-bytes": "67108864",
    "ml.semantic-max-lease": "3600000",
    "ml.semantic-inline-bytes": "16777216",
    "ml.semantic-threads": "2",
}


def test_the_example_starts_a_server(start_server, module):
    text = (ROOT / "redis.conf.example").read_text()
    config, replaced = re.subn(r"^loadmodule .*$", f"loadmodule {module}", text, flags=re.M)
    assert replaced == 1
    client = redis.Redis(port=start_server(config), decode_responses=True)
    assert client.config_get("ml.*") == DEFAULTS
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "volatile-lru"}
    assert client.execute_command("ML.RATELIMIT", "user:1", 1, 60)[0] == 1


def test_it_names_every_config_with_its_default(port):
    """Also against the module: a new config, or a new default, belongs in it."""
    text = (ROOT / "redis.conf.example").read_text()
    named = dict(re.findall(r"^(ml\.\S+) (\S+)$", text, re.M))
    assert named == redis.Redis(port=port, decode_responses=True).config_get("ml.*") == DEFAULTS


def test_a_config_changes_what_the_cache_does(port):
    client = redis.Redis(port=port, decode_responses=True)
    client.config_set("ml.cache-ttl", 10)
    client.execute_command("ML.CACHESET", "pred:a", "v1", "x")
    assert 9 <= client.ttl("pred:a") <= 10
    client.config_set("ml.cache-ttl", 3600)
