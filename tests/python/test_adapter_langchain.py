"""mlserve.langchain, by the standard tests of LangChain (langchain-tests 1.1.9)."""

import pytest
from langchain_core.outputs import Generation
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from mlserve.langchain import MlserveCache


@pytest.fixture
def cache(url):
    return MlserveCache(url, ttl=60)


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, url):
        return MlserveCache(url, ttl=60)


@pytest.mark.asyncio
class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    def cache(self, url):
        return MlserveCache(url, ttl=60)


def test_models_are_versions_and_clear_leaves_other_keys(cache):
    cache.client.command("SET", "other", "1", keys=["other"])
    cache.update("prompt", "model a" * 100, [Generation(text="a")])
    cache.update("prompt", "model b" * 100, [Generation(text="b")])
    assert cache.lookup("prompt", "model a" * 100) == [Generation(text="a")]
    assert cache.lookup("prompt", "model b" * 100) == [Generation(text="b")]
    cache.clear()
    assert cache.lookup("prompt", "model a" * 100) is None
    assert cache.client.command("GET", "other", keys=["other"]) == b"1"
