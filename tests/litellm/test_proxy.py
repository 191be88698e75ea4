"""LiteLLM's proxy with the limiter and the cache of mlserve, before a model that is none.

Run by scripts/litellm-suite, which says where LiteLLM, the server and the module are. Two
proxies share one server; keys say their own limits, see auth.py, and prompts what the model
does, see model.py.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis

HERE = Path(__file__).parent
LITELLM = Path(sys.executable).with_name("litellm")
MODULE = os.environ["MLSERVE_MODULE"]

CONFIG = """
model_list:
  - model_name: fake
    litellm_params: {{model: openai/fake, api_base: "http://127.0.0.1:{model}/v1", api_key: none}}
litellm_settings:
  callbacks: ["mlserve.litellm.limiter", "mlserve.litellm.cache"]
callback_settings:
  mlserve:
    url: "redis://127.0.0.1:{redis}"
    hold: 2
    cache_params: {{mode: default_off}}
router_settings: {{num_retries: 0, disable_cooldowns: true}}
general_settings:
  custom_auth: auth.user_api_key_auth
  master_key: sk-0123456789abcdef0123456789abcdef
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(ready, process, what):
    deadline = time.monotonic() + 120
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{what} did not start: see its log")
        time.sleep(0.2)


def answers(url):
    def ready():
        try:
            return httpx.get(url).status_code == 200
        except httpx.TransportError:
            return False

    return ready


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    """Starts programs, which end with the session."""
    running = []
    directory = tmp_path_factory.mktemp("litellm")

    def start(name, *command, **environment):
        with open(directory / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                env=os.environ | environment,
            )
        running.append(process)
        return process

    start.directory = directory
    yield start
    for process in running:
        process.kill()
        process.wait(timeout=20)


@pytest.fixture(scope="session")
def store(started):
    port = free_port()
    process = started(
        "redis", "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
        "--loadmodule", MODULE,
    )  # fmt: skip
    client = redis.Redis(port=port, decode_responses=True)

    def ready():
        try:
            return client.ping()
        except redis.ConnectionError:
            return False

    wait_for(ready, process, "the server")
    return client


@pytest.fixture(scope="session")
def model(started):
    port = free_port()
    process = started("model", sys.executable, HERE / "model.py", port)
    wait_for(answers(f"http://127.0.0.1:{port}/most"), process, "the model")
    return port


@pytest.fixture(scope="session")
def proxies(started, store, model):
    """Two of them, as addresses."""
    (started.directory / "auth.py").write_text((HERE / "auth.py").read_text())
    config = started.directory / "config.yaml"
    port = store.connection_pool.connection_kwargs["port"]
    config.write_text(CONFIG.format(model=model, redis=port))
    found = []
    for name in ("first", "second"):
        port = free_port()
        process = started(
            name, LITELLM, "--config", config, "--host", "127.0.0.1", "--port", port,
            "--keepalive_timeout", 600,
            LITELLM_LOCAL_MODEL_COST_MAP="True",
        )  # fmt: skip
        found.append((f"http://127.0.0.1:{port}", process))
    for url, process in found:
        wait_for(answers(f"{url}/health/liveliness"), process, "a proxy")
    return [url for url, _ in found]


class Caller:
    """Calls of one test, by turns through both proxies."""

    def __init__(self, client, proxies, store, model):
        self.client, self.proxies, self.store, self.model = client, proxies, store, model
        self.turn = 0

    def request(self, key, prompt, **more):
        self.turn += 1
        return {
            "method": "POST",
            "url": f"{self.proxies[self.turn % 2]}/v1/chat/completions",
            "headers": {"Authorization": f"Bearer {key}"},
            "json": {
                "model": "fake",
                "max_tokens": 40,
                "messages": [{"role": "user", "content": prompt}],
                **more,
            },
        }

    async def __call__(self, key, prompt="tokens=5", **more):
        return await self.client.request(**self.request(key, prompt, **more))

    async def most(self):
        """How many calls the model had at once since it was asked last, and had in all."""
        return (await self.client.get(f"http://127.0.0.1:{self.model}/most")).json()

    def info(self, kind):
        """What is held in the keys of one kind."""
        answer = [
            self.store.execute_command("ML.LIMITINFO", key) for key in self.store.keys(f"*:{kind}")
        ]
        return [
            dict(zip(one[::2], one[1::2], strict=True)) if isinstance(one, list) else one
            for one in answer
        ]

    def used(self, kind):
        """What is charged to each key of a kind."""
        charged = []
        for info in self.info(kind):
            window = info["windows"][0]
            if isinstance(window, list):
                window = dict(zip(window[::2], window[1::2], strict=True))
            charged.append(window["used"])
        return charged

    def state(self):
        """All that is charged, to be told."""
        return self.store.keys(), self.used("requests"), self.used("tokens")

    async def until(self, right):
        """Wait until what comes after an answer is done: LiteLLM does it in the background."""
        deadline = time.monotonic() + 20
        while not right():
            assert time.monotonic() < deadline, f"did not come about: {self.state()}"
            await asyncio.sleep(0.02)


def run(proxies, store, model, work):
    store.flushall()
    store.config_resetstat()

    async def main():
        limits = httpx.Limits(max_connections=1000)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            caller = Caller(client, proxies, store, model)
            await caller.most()
            return await work(caller)

    return asyncio.run(main())


@pytest.fixture
def go(proxies, store, model):
    return lambda work: run(proxies, store, model, work)


def codes(answers):
    found = {}
    for answer in answers:
        found[answer.status_code] = found.get(answer.status_code, 0) + 1
    return found


def test_requests_of_a_key(go):
    async def work(call):
        answers = await asyncio.gather(*[call("sk-a;rpm=100") for _ in range(400)])
        assert codes(answers) == {200: 100, 429: 300}
        assert (await call.most())["calls"] >= 100
        assert call.used("requests") == [100]

    go(work)


def test_tokens_are_held_as_estimated_and_settled_as_used(go):
    async def work(call):
        # Each holds 40 and what its prompt is thought to be, until it is settled by 15.
        key = "sk-a;tpm=1000"
        held = [asyncio.ensure_future(call(key, "delay=10")) for _ in range(40)]
        await call.until(lambda: 950 < sum(call.used("tokens")) <= 1000)
        assert codes(await asyncio.gather(*[call(key) for _ in range(50)])) == {429: 50}
        admitted = codes(await asyncio.gather(*held))[200]
        assert 22 <= admitted <= 25
        await call.until(lambda: call.used("tokens") == [15 * admitted])

    go(work)


def test_slots_of_a_key_are_never_more_and_all_come_back(go):
    async def work(call):
        async def persistent(number):
            while (answer := await call("sk-a;slots=8", "delay=0.02")).status_code == 429:
                await asyncio.sleep(0.05)
            return answer

        answers = await asyncio.gather(*[persistent(number) for number in range(100)])
        assert codes(answers) == {200: 100}
        assert (await call.most())["most"] <= 8
        await call.until(lambda: not call.store.keys("*:max_parallel_requests"))

    go(work)


def test_keys_teams_and_models_are_decided_together(go):
    async def work(call):
        keys = [f"sk-{name};rpm=30;team=t;team_rpm=50;model_rpm=1000" for name in "abcd"]
        answers = await asyncio.gather(*[call(key) for key in keys * 50])
        assert codes(answers) == {200: 50, 429: 150}
        # Who was denied by the team is not charged at its key.
        assert sum(sorted(call.used("requests"))) == 50 + 50 + 50

        call.store.flushall()
        answers = await asyncio.gather(*[call("sk-a;rpm=30;model_rpm=20") for _ in range(60)])
        assert codes(answers) == {200: 20, 429: 40}

    go(work)


def test_one_command_lets_in_and_the_denial_says_why(go):
    async def work(call):
        key = "sk-a;rpm=1;tpm=500;slots=3;team=t;team_tpm=900"
        answer = await call(key)
        assert answer.headers["x-ratelimit-api_key-remaining-requests"] == "0"
        assert answer.headers["x-ratelimit-api_key-limit-tokens"] == "500"
        assert answer.headers["x-ratelimit-api_key-remaining-max_parallel_requests"] == "2"
        assert answer.headers["x-ratelimit-team-limit-tokens"] == "900"
        await call.until(lambda: call.used("tokens") == [15, 15])
        calls = call.store.info("commandstats")
        assert calls["cmdstat_ML.ADMIT"]["calls"] == 1
        # The slot as the answer leaves, the tokens when they are known.
        assert calls["cmdstat_ML.SETTLE"]["calls"] == 2

        denied = await call(key)
        assert denied.status_code == 429
        assert denied.headers["rate_limit_type"] == "requests"
        assert 1 <= int(denied.headers["retry-after"]) <= 60
        assert "Rate limit exceeded for api_key" in denied.text
        assert call.used("tokens") == [15, 15]

    go(work)


def test_a_stream_holds_its_slot_to_the_end_and_settles(go):
    async def work(call):
        key = "sk-a;tpm=1000;slots=1"
        request = call.request(key, "pause=0.5 tokens=7", stream=True)
        async with call.client.stream(**request) as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            await anext(lines)
            assert (await call(key)).status_code == 429
            # Longer than the hold of 2 s: it is renewed.
            async for _ in lines:
                pass
        await call.until(lambda: call.used("tokens") == [17])
        await call.until(lambda: not call.store.keys("*:max_parallel_requests"))
        assert (await call(key)).status_code == 200

    go(work)


def test_a_stream_that_is_left_gives_its_slot_back(go):
    async def work(call):
        key = "sk-a;slots=1"
        async with call.client.stream(**call.request(key, "pause=5", stream=True)) as stream:
            await anext(stream.aiter_lines())
            assert (await call(key)).status_code == 429
        await call.until(lambda: not call.store.keys("*:max_parallel_requests"))

    go(work)


def test_a_failure_gives_tokens_and_slot_back(go):
    async def work(call):
        answer = await call("sk-a;rpm=5;tpm=1000;slots=1", "fail")
        assert answer.status_code == 500
        await call.until(lambda: sum(call.used("tokens")) == 0)
        await call.until(lambda: not call.store.keys("*:max_parallel_requests"))
        # As with LiteLLM's own, the attempt counts as a request.
        assert call.used("requests") == [1]

    go(work)


def test_the_cache_answers_both_proxies(go):
    async def work(call):
        asked = {"cache": {"use-cache": True}, "temperature": 0}
        first = await call("sk-a", "the same", **asked)
        await call.until(lambda: call.store.dbsize() == 1)
        for _ in range(3):
            again = await call("sk-a", "the same", **asked)
            assert again.json()["choices"] == first.json()["choices"]
        assert (await call("sk-a", "another", **asked)).json()["choices"] != first.json()["choices"]
        call.store.execute_command("ML.CACHEVERSIONSET", "litellm", "2")
        retired = await call("sk-a", "the same", **asked)
        assert retired.json()["choices"] != first.json()["choices"]
        call.store.execute_command("ML.CACHEVERSIONSET", "litellm", "CLEAR")
        headers = {"Authorization": "Bearer sk-0123456789abcdef0123456789abcdef"}
        ping = await call.client.get(f"{call.proxies[0]}/cache/ping", headers=headers)
        assert ping.status_code == 200, ping.text

    go(work)


def test_a_server_that_is_away_is_counted_without(go, store):
    async def work(call):
        # Paused, for longer than both breakers take to open.
        call.store.execute_command("CLIENT", "PAUSE", 6000)
        begun = time.monotonic()
        answers = await asyncio.gather(*[call("sk-away;rpm=20") for _ in range(100)])
        assert time.monotonic() - begun < 6
        # Each proxy counts in its own memory.
        assert codes(answers) == {200: 40, 429: 60}
        await call.until(lambda: call.store.ping())

    go(work)
