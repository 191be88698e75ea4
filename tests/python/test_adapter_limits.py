"""mlserve.limits: what the tests of `limits` do not ask."""

import flask
import limits
import pytest
import slowapi
import slowapi.errors
import slowapi.middleware
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import mlserve.limits  # noqa: F401


@pytest.fixture
def uri(url):
    return url.replace("redis://", "mlserve://")


def test_denials_count_in_a_fixed_window_and_in_no_moving_one(uri):
    storage = storage_from_string(uri)
    item = limits.parse("2/minute")
    for kind, used in ((FixedWindowRateLimiter, 5), (MovingWindowRateLimiter, 2)):
        limiter = kind(storage)
        assert [limiter.hit(item, kind.__name__) for _ in range(5)] == [True, True] + [False] * 3
        key = item.key_for(kind.__name__)
        found = storage.get(key) if used == 5 else storage.get_moving_window(key, 2, 60)[1]
        assert found == used


def test_a_server_that_is_away_is_an_error_that_is_wrapped_if_asked():
    assert storage_from_string("mlserve://127.0.0.1:1").check() is False
    with pytest.raises(mlserve.Unavailable):
        storage_from_string("mlserve://127.0.0.1:1").get("k")
    with pytest.raises(limits.errors.StorageError):
        storage_from_string("mlserve://127.0.0.1:1", wrap_exceptions=True).get("k")


STRATEGIES = ["fixed-window", "moving-window", "sliding-window-counter"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_flask_limiter_by_uri(uri, strategy):
    app = flask.Flask(__name__)
    Limiter(
        get_remote_address,
        app=app,
        storage_uri=uri,
        strategy=strategy,
        default_limits=["2/minute"],
    )
    app.route("/")(lambda: "ok")
    client = app.test_client()
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_slowapi_by_uri(uri, strategy):
    limiter = slowapi.Limiter(
        lambda request: request.query_params["user"],
        storage_uri=uri,
        strategy=strategy,
        default_limits=["2/minute"],
        headers_enabled=True,
    )

    async def root(request):
        return PlainTextResponse("ok")

    @limiter.limit("1/minute")
    async def once(request):
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", root), Route("/once", once)])
    app.state.limiter = limiter
    app.add_exception_handler(
        slowapi.errors.RateLimitExceeded, slowapi._rate_limit_exceeded_handler
    )
    app.add_middleware(slowapi.middleware.SlowAPIASGIMiddleware)
    with TestClient(app) as web:
        answers = [web.get("/?user=1") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
        assert web.get("/?user=2").status_code == 200
        assert [web.get("/once?user=1").status_code for _ in range(2)] == [200, 429]
