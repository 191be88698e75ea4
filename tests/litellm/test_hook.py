"""The limiter beside LiteLLM's own: the same requests, call by call, are to end alike.

Up to the first denial, as LiteLLM's charges some of what it denies. Run by
scripts/litellm-suite.
"""

import asyncio
import os
import random
import subprocess

import pytest
import redis
from litellm.caching.caching import DualCache
from litellm.proxy._types import UserAPIKeyAuth, hash_token
from litellm.proxy.common_utils.proxy_rate_limit_error import ProxyRateLimitError
from litellm.proxy.hooks.parallel_request_limiter_v3 import (
    PROXY_MaxParallelRequestsHandler_v3,
    _request_stash,
)
from litellm.proxy.utils import InternalUsageCache
from litellm.types.utils import EmbeddingResponse, ModelResponse, Usage
from test_proxy import MODULE, free_port, wait_for

from mlserve.litellm import MlserveLimiter, Settings

KEY = hash_token("sk-a")

WHO = {
    "key": {"rpm_limit": 9, "tpm_limit": 3000, "max_parallel_requests": 3},
    "only slots": {"max_parallel_requests": 2},
    "user": {"user_id": "u", "user_rpm_limit": 7, "user_tpm_limit": 2000},
    "team": {"team_id": "t", "team_rpm_limit": 8, "team_tpm_limit": 2000, "rpm_limit": 100},
    "member": {
        "team_id": "t", "user_id": "u", "team_member_rpm_limit": 6, "team_member_tpm_limit": 2500,
        "tpm_limit": 4000,
    },
    "end user": {"end_user_id": "e", "end_user_rpm_limit": 5, "end_user_tpm_limit": 1000},
    "organization": {
        "org_id": "o", "organization_rpm_limit": 8, "organization_tpm_limit": 1500,
        "max_parallel_requests": 4,
    },
    "model of a key": {"metadata": {"model_rpm_limit": {"gpt": 4}, "model_tpm_limit": {"gpt": 900}}},
    "model of a team": {
        "team_id": "t", "team_metadata": {"model_rpm_limit": {"gpt": 6}, "model_tpm_limit": {"gpt": 1200}},
    },
    "tokens in and out of a project": {
        "project_id": "p",
        "project_metadata": {"model_itpm_limit": {"gpt": 200}, "model_otpm_limit": {"gpt": 400}},
    },
    "nobody": {},
    "all": {
        "rpm_limit": 30, "tpm_limit": 4000, "max_parallel_requests": 5, "team_id": "t",
        "team_rpm_limit": 25, "team_tpm_limit": 3800, "user_id": "u", "user_rpm_limit": 28,
        "user_tpm_limit": 5000, "end_user_id": "e", "end_user_tpm_limit": 4500,
        "metadata": {"model_tpm_limit": {"gpt": 3900}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def store():
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--loadmodule", MODULE]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, cwd=os.environ.get("TMPDIR", "/tmp")
    )
    client = redis.Redis(port=port)

    def ready():
        try:
            return client.ping()
        except redis.ConnectionError:
            return False

    wait_for(ready, process, "the server")
    yield client
    process.kill()
    process.wait(timeout=20)


def payload(draw):
    """A request, its kind, what it uses, and how it ends."""
    words = "word " * draw.randrange(1, 60)
    kind = draw.choice(["acompletion"] * 4 + ["aembedding", "aresponses", "atext_completion"])
    data = {"model": "gpt"}
    if kind == "acompletion":
        data["messages"] = [{"role": "user", "content": words}]
    else:
        data["prompt" if kind == "atext_completion" else "input"] = words
    if kind != "aembedding" and draw.random() < 0.8:
        name = "max_output_tokens" if kind == "aresponses" else "max_tokens"
        data[name] = draw.randrange(0, 120)
    end = draw.choice(["success"] * 4 + ["failure", "rejection", "runs", "left"])
    return data, kind, (draw.randrange(1, 60), draw.randrange(0, 120)), end


async def one(limiter, who, number, asked):
    """A request in notes of its own: what the caller sees, its notes."""
    data, kind, (prompt, completion), end = asked
    data = {**data, "litellm_call_id": f"call {number}"}
    auth = UserAPIKeyAuth(api_key=KEY, **who)
    _request_stash.set(None)
    try:
        await limiter.async_pre_call_hook(auth, DualCache(), data, kind)
    except ProxyRateLimitError as error:
        kinds = error.rate_limit_type, error.headers["rate_limit_type"], error.descriptor_key
        return ("denied", *kinds, str(error.detail).split(" Remaining")[0], error.model)
    response = (EmbeddingResponse if kind == "aembedding" else ModelResponse)(
        usage=Usage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )
    )
    stash = _request_stash.get()
    statuses = stash.rate_limit_response["statuses"] if stash.rate_limit_response else []
    told = {
        (one["descriptor_key"], one["rate_limit_type"]): (
            one["current_limit"],
            one["limit_remaining"],
        )
        for one in statuses
    }
    metadata = {
        "user_api_key_hash": KEY,
        "user_api_key_user_id": who.get("user_id"),
        "user_api_key_team_id": who.get("team_id"),
        "user_api_key_org_id": who.get("org_id"),
        "user_api_key_project_id": who.get("project_id"),
        "user_api_key_end_user_id": who.get("end_user_id"),
    }
    kwargs = {
        "litellm_call_id": data["litellm_call_id"],
        "call_type": kind,
        "standard_logging_object": {"metadata": metadata},
        "litellm_params": {"metadata": {"model_group": "gpt"}},
    }
    if end == "success":
        await limiter.async_post_call_success_hook(data, auth, response)
        await limiter.async_log_success_event(kwargs, response, None, None)
    elif end == "failure":
        await limiter.async_log_failure_event(kwargs, None, None, None)
    elif end == "rejection":
        await limiter.async_post_call_failure_hook(data, ValueError(), auth)
    elif end == "left":
        await limiter.async_release_max_parallel_requests_on_disconnect(auth)
    return "admitted", told, data, response._hidden_params.get("additional_headers"), stash


async def requests(limiter, who, seed):
    draw = random.Random(seed)
    ends, notes = [], []
    for number in range(60):
        asked = payload(draw)
        end = await asyncio.create_task(one(limiter, who, number, asked))
        if end[0] == "admitted":
            # Those that run on are not to be forgotten.
            notes.append(end[-1])
            end = end[:-1]
        ends.append(end)
        if end[0] == "denied":
            break
    return ends


@pytest.mark.parametrize("who", WHO)
def test_the_same_requests_end_alike(store, who):
    store.flushall()
    port = store.connection_pool.connection_kwargs["port"]
    denials = 0
    for seed in range(25):

        async def both(seed=seed):
            cache = InternalUsageCache(DualCache())
            theirs = PROXY_MaxParallelRequestsHandler_v3(cache)
            settings = Settings(
                f"redis://127.0.0.1:{port}", algorithm="FIXED", namespace=f"run{seed}"
            )
            ours = MlserveLimiter(InternalUsageCache(DualCache()), settings)
            found = await requests(theirs, WHO[who], seed), await requests(ours, WHO[who], seed)
            await ours.server.close()
            return found

        theirs, ours = asyncio.run(both())
        for number, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            assert other == one, (seed, number)
        assert len(ours) == len(theirs), seed
        denials += ours[-1][0] == "denied"
    assert bool(denials) == (who != "nobody")
