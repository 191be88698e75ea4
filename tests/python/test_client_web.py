"""Limits in FastAPI and Starlette: the dependency, the middleware, and the headers, read as
what they are, structured fields (RFC 9651)."""

import asyncio
import contextlib
import threading
import time

import http_sfv
import mlserve
import mlserve.fastapi
import pydantic
import pytest
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient


def fields(answer, name):
    """A field as {policy: parameters}."""
    found = http_sfv.List()
    found.parse(answer.headers[name].encode())
    return {item.value: dict(item.params) for item in found}


class AMinute:
    """Equal to what is left of a minute that has just begun, on a machine that stalls."""

    def __eq__(self, seconds):
        return 50 < seconds <= 60

    def __repr__(self):
        return "(50, 60]"


A_MINUTE = AMinute()


def by_user(request):
    return mlserve.limit("2/minute; 1000/day", key=f"user:{request.query_params['user']}")


def slot(_):
    return mlserve.permit(1, key="slot")


@pytest.fixture(params=["threads", "asyncio"])
def client(url, request):
    kind = mlserve.Client if request.param == "threads" else mlserve.aio.Client
    return kind.from_url(url, timeout=5)


@pytest.fixture
def aio(url):
    return mlserve.aio.Client.from_url(url, timeout=5)


# --- headers -------------------------------------------------------------------


def asked_and_answered(url, *asked):
    """The headers of a call that is let in, or denied."""
    with mlserve.Client.from_url(url, timeout=5) as client:
        try:
            with mlserve.admit(client, *asked) as admission:
                answer = PlainTextResponse(
                    "in", headers=mlserve.fastapi.headers(asked, admission.decision))
        except mlserve.Denied as denied:
            answer = mlserve.fastapi.answer(denied)
    return answer


def test_of_several_limits_those_that_deny_say_when(url):
    def limits(cost):
        return [
            mlserve.limit("10/minute", key="{a}:user", cost=cost),
            mlserve.limit("10/minute", key="{a}:org"),
            mlserve.limit("5/second; 100/hour", key="{a}:tokens"),
        ]

    answer = asked_and_answered(url, *limits(8))
    assert fields(answer, "RateLimit-Policy") == {
        "10-in-60s": {"q": 10, "w": 60},
        "10-in-60s-too": {"q": 10, "w": 60},
        "5-in-1s": {"q": 5, "w": 1},
        "100-in-3600s": {"q": 100, "w": 3600},
    }
    # Of several windows the one that binds.
    assert fields(answer, "RateLimit") == {
        "10-in-60s": {"r": 2, "t": 60},
        "10-in-60s-too": {"r": 9, "t": 60},
        "5-in-1s": {"r": 4, "t": 1},
    }
    answer = asked_and_answered(url, *limits(8))
    assert answer.status_code == 429
    assert len(fields(answer, "RateLimit-Policy")) == 4
    left = fields(answer, "RateLimit")
    assert list(left) == ["10-in-60s"] and left["10-in-60s"]["r"] == 2
    # No earlier than the end of the effective window.
    assert int(answer.headers["Retry-After"]) >= left["10-in-60s"]["t"] > 1


def test_a_denial_for_ever_says_no_time(url):
    answer = asked_and_answered(url, mlserve.limit("10/minute", key="k", cost=11))
    assert answer.status_code == 429
    assert fields(answer, "RateLimit") == {"10-in-60s": {"r": 10}}
    assert "Retry-After" not in answer.headers


def test_a_window_that_is_no_whole_number_of_seconds_is_named(url):
    asked = mlserve.limit(9, 0.5, 8, "MONTH", 7, mlserve.Until(lambda: time.time() + 60), key="k")
    answer = asked_and_answered(url, asked)
    assert fields(answer, "RateLimit-Policy") == {
        "9-in-0.5s": {"q": 9}, "8-a-month": {"q": 8}, "7-until": {"q": 7}}
    assert fields(answer, "RateLimit") == {"7-until": {"r": 6, "t": A_MINUTE}}


def test_a_limit_beyond_what_a_field_can_say_is_the_most_that_it_can(url):
    answer = asked_and_answered(url, mlserve.limit(f"{2**53}/day", key="k"))
    most = 999_999_999_999_999
    name = f"{2**53}-in-86400s"
    assert fields(answer, "RateLimit-Policy") == {name: {"q": most, "w": 86400}}
    assert fields(answer, "RateLimit") == {name: {"r": most, "t": 86400}}


# --- the dependency ------------------------------------------------------------


def test_a_dependency_by_either_client(client):
    app = FastAPI()
    mlserve.fastapi.install(app)
    over, seen = [], []

    def none(_):
        return None

    def both(request):
        return [mlserve.limit("9/minute", key="{u}:rpm"), mlserve.permit(1, key="{u}:slot")]

    admitted = {
        name: Depends(mlserve.fastapi.admitted(client, asking, **options))
        for name, asking, options in [
            ("limited", by_user, {}), ("held", both, {"hold": 60}), ("free", none, {})]
    }

    @app.get("/limited", dependencies=[admitted["limited"]])
    def limited():
        return "in"

    @app.get("/held")
    def held(request: Request, admission: mlserve.fastapi.Admitted = admitted["held"]):
        seen.append(admission)
        if "fail" in request.query_params:
            raise RuntimeError("fail")
        with pytest.raises(mlserve.Busy), mlserve.Client.from_url(URL) as other:
            with mlserve.admit(other, mlserve.permit(1, key="{u}:slot"), hold=5):
                over.append(1)
        return admission.id

    @app.get("/free")
    def free(admission: mlserve.fastapi.Admitted = admitted["free"]):
        return admission.decision

    URL = "redis://{}:{}".format(*client._where.of(None))
    with TestClient(app, raise_server_exceptions=False) as web:
        answers = [web.get("/limited?user=1") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert fields(answers[1], "RateLimit") == {"2-in-60s": {"r": 0, "t": A_MINUTE}}
        assert fields(answers[2], "RateLimit-Policy")["1000-in-86400s"] == {"q": 1000, "w": 86400}
        assert 1 <= fields(answers[2], "RateLimit")["2-in-60s"]["t"] <= 60
        assert web.get("/limited?user=2").status_code == 200
        assert len(web.get("/held").json()) == 32 and not over
        assert fields(web.get("/held"), "RateLimit")["9-in-60s"]["r"] == 7
        # What failed gives back; nothing of it is held any more.
        assert web.get("/held?fail").status_code == 500
        assert fields(web.get("/held"), "RateLimit")["9-in-60s"]["r"] == 6
        assert len({admission.id for admission in seen}) == 4
        answer = web.get("/free")
        assert answer.json() is None and "RateLimit-Policy" not in answer.headers


class Chat(pydantic.BaseModel):
    prompt: str
    most: int = 10


async def by_body(request):
    return mlserve.limit("100/minute", key="{b}:k", cost=len((await request.json())["prompt"]))


def tenant(request: Request):
    return request.query_params.get("tenant", "acme")


def by_model(chat: Chat, name: str = Depends(tenant)):
    return [mlserve.limit("100/minute", key="{b}:k", cost=len(chat.prompt) + chat.most),
            mlserve.permit(1, key=f"{{b}}:{name}")]


async def by_model_awaited(chat: Chat):
    return mlserve.limit("100/minute", key="{b}:k", cost=len(chat.prompt) + chat.most)


@pytest.mark.parametrize(("asking", "first", "second"), [
    (by_body, 5, 6), (by_model, 15, 9), (by_model_awaited, 15, 9)])
def test_what_asks_is_a_dependency_that_sees_the_body(client, asking, first, second):
    app = FastAPI()
    mlserve.fastapi.install(app)

    @app.post("/chat")
    def chat(
        chat: Chat,
        admission: mlserve.fastapi.Admitted = Depends(  # noqa: B008
            mlserve.fastapi.admitted(client, asking, hold=60)),
    ):
        return chat.prompt, list(admission.decision.rows)

    with TestClient(app) as web:
        answer = web.post("/chat?tenant=globex", json={"prompt": "hello"})
        assert answer.json()[0] == "hello"
        assert ("{b}:globex" in answer.json()[1]) == (asking is by_model)
        assert fields(answer, "RateLimit")["100-in-60s"]["r"] == 100 - first
        answer = web.post("/chat", json={"prompt": "hellos", "most": 3})
        assert fields(answer, "RateLimit")["100-in-60s"]["r"] == 100 - first - second
        assert web.post("/chat", json={"prompt": "x" * 101, "most": 101}).status_code == 429


def test_many_requests_at_once_by_a_client_in_threads(url):
    with mlserve.Client.from_url(url, timeout=5) as client:
        app = FastAPI()
        mlserve.fastapi.install(app)
        full = threading.Barrier(6)
        slots = mlserve.fastapi.admitted(client, lambda _: mlserve.permit(6, key="s"), hold=60)

        @app.get("/", dependencies=[Depends(slots)])
        def root():
            full.wait(20)
            answer = web.get("/busy")
            full.wait(20)
            return answer.status_code

        @app.get("/busy", dependencies=[Depends(slots)])
        def busy():
            return "in"

        with TestClient(app) as web:
            found = []
            threads = [
                threading.Thread(target=lambda: found.append(web.get("/").json()))
                for _ in range(6)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert found == [503] * 6
        assert client.limitinfo("s") is None


# --- the middleware ------------------------------------------------------------


def with_middleware(app, client, asking, **options):
    app.add_middleware(
        mlserve.fastapi.AdmissionMiddleware, client=client, asking=asking, **options)
    return TestClient(app, raise_server_exceptions=False)


def test_the_middleware_answers_429_and_503_with_headers(aio):
    async def root(request):
        return PlainTextResponse("in", headers={"X-Own": "kept"})

    async def asking(request):
        if request.url.path == "/health":
            return None
        return slot(request) if "slot" in request.query_params else by_user(request)

    app = Starlette(routes=[Route("/", root), Route("/health", root)])
    with with_middleware(app, aio, asking, hold=60) as web:
        for remaining in (1, 0):
            answer = web.get("/?user=1")
            assert (answer.status_code, answer.text) == (200, "in")
            assert answer.headers["X-Own"] == "kept"
            assert fields(answer, "RateLimit") == {"2-in-60s": {"r": remaining, "t": A_MINUTE}}
        answer = web.get("/?user=1")
        assert (answer.status_code, answer.json()) == (429, {"detail": "Too Many Requests"})
        left = fields(answer, "RateLimit")["2-in-60s"]
        assert left["r"] == 0 and int(answer.headers["Retry-After"]) == left["t"] <= 60
        assert web.get("/health").status_code == 200
        web.portal.call(lambda: aio.admit({"slot": mlserve.Permit(1)}, hold=60))
        answer = web.get("/?slot")
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_a_stream_holds_its_permit_to_its_end_and_arrives_in_parts(aio):
    parts = []

    async def stream(request):
        async def body():
            for part in ("a", "b"):
                yield part
                parts.append((await aio.limitinfo("slot")).in_use)

        return StreamingResponse(body())

    async def broken(request):
        async def body():
            yield "a"
            raise mlserve.Limited("of something else")

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", stream), Route("/broken", broken)])
    middleware = mlserve.fastapi.AdmissionMiddleware(app, client=aio, asking=slot, hold=60)

    async def ask(path):
        sent = []

        async def receive():
            return await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"",
            "server": ("test", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        failed = False
        try:
            await middleware(scope, receive, send)
        except mlserve.Limited:
            failed = True
        assert await aio.limitinfo("slot") is None
        return failed, [message.get("body") for message in sent]

    async def main():
        async with aio:
            assert await ask("/") == (False, [None, b"a", b"b", b""])
            assert parts == [1, 1]
            # Once a response has begun, there is no other.
            failed, sent = await ask("/broken")
            assert failed and sent[:2] == [None, b"a"]

    asyncio.run(main())


def test_websockets_and_lifespan_pass_the_middleware(aio):
    events = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        events.append("up")
        yield
        events.append("down")

    async def echo(websocket):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/", echo)], lifespan=lifespan)
    nobody = mlserve.limit("0/minute", key="nobody")
    with with_middleware(app, aio, lambda _: nobody) as web:
        with web.websocket_connect("/") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"
        assert web.get("/").status_code == 429
    assert events == ["up", "down"]


@pytest.mark.parametrize(("policy", "status"), [("allow", 200), ("deny", 503), ("raise", 500)])
def test_the_middleware_while_the_server_is_away(policy, status):
    async def root(request):
        return PlainTextResponse("in")

    client = mlserve.aio.Client.from_url("redis://127.0.0.1:1", timeout=0.2)
    app = Starlette(routes=[Route("/", root)])
    with with_middleware(app, client, by_user, on_error=policy) as web:
        assert web.get("/?user=1").status_code == status


def test_what_the_middleware_cannot_do_is_refused_at_once(url):
    with pytest.raises(TypeError, match=r"client must be an mlserve.aio.Client"):
        mlserve.fastapi.AdmissionMiddleware(None, mlserve.Client.from_url(url), by_user)
    with pytest.raises(ValueError, match="on_error"):
        mlserve.fastapi.AdmissionMiddleware(
            None, mlserve.aio.Client.from_url(url), by_user, on_error="no")
