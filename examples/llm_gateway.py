"""A gateway before a language model: budgets, slots, a queue and a cache.

    pip install -r examples/requirements.txt         # at the top of the repository
    uvicorn --factory llm_gateway:app --port 8000    # in this folder
    curl -N localhost:8000/v1/completions -H 'Authorization: Bearer acme-key' \\
         -H 'Content-Type: application/json' -d '{"prompt": "Why is the sky blue?"}'
    curl localhost:8000/v1/budget -H 'Authorization: Bearer acme-key'

Wants a server that has the module loaded, at REDIS_URL (redis://127.0.0.1:6379). The model
is made up: it says words, one every SECONDS_A_WORD. All else is as before a real one.
"""

import asyncio
import json
import os
from contextlib import asynccontextmanager
from itertools import cycle, islice
from typing import Annotated

import mlserve
import mlserve.fastapi
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

MODEL = "parrot-1"
SECONDS_A_WORD = 0.02
SLOTS, QUEUE, WAIT = 2, 100, 20  # what runs at once; how many wait for it, how many seconds
TENANTS = {"acme-key": "acme", "globex-key": "globex"}
TOKENS_A_MINUTE = 2_000
MICROS_A_DAY = mlserve.micros("5.00")
MICROS_A_PROMPT_TOKEN, MICROS_A_TOKEN = 3, 15

bearer = HTTPBearer()


class Completion(BaseModel):
    prompt: str = Field(min_length=1, max_length=20_000)
    max_tokens: int = Field(50, ge=1, le=1_000)


async def parrot(prompt, max_tokens):
    """The model: a stream of words."""
    for word in islice(cycle(prompt.split() or ["?"]), max_tokens):
        await asyncio.sleep(SECONDS_A_WORD)
        yield word


def costs(tenant, prompt_tokens, tokens):
    """What a call costs, by the key that it is charged to."""
    micros = prompt_tokens * MICROS_A_PROMPT_TOKEN + tokens * MICROS_A_TOKEN
    return {f"{{{tenant}}}:tokens": prompt_tokens + tokens, f"{{{tenant}}}:micros": micros}


def asked(tenant, prompt_tokens, tokens):
    """What a call asks for: tokens, money, and a slot of the model, which all tenants share.

    For a slot it waits; where a budget is used up it is denied at once: that is `queue=0`.
    """
    limits = (f"{TOKENS_A_MINUTE}/minute", f"{MICROS_A_DAY}/day")
    for rate, (key, cost) in zip(limits, costs(tenant, prompt_tokens, tokens).items()):
        yield mlserve.limit(rate, key=key, cost=cost, queue=0)
    yield mlserve.permit(SLOTS, key=f"{{{MODEL}}}:slots", queue=QUEUE)


def tenant_of(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]):
    """The tenant that an API key is of."""
    tenant = TENANTS.get(credentials.credentials)
    if tenant is None:
        raise HTTPException(401, "unknown key")
    return tenant


Tenant = Annotated[str, Depends(tenant_of)]


def app():
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    # Who waits keeps a connection.
    client = mlserve.aio.Client.from_url(url, max_connections=2 * QUEUE)

    @asynccontextmanager
    async def lifespan(_):
        yield
        await client.aclose()

    gateway = FastAPI(lifespan=lifespan)
    mlserve.fastapi.install(gateway)  # 429 for a budget, 503 for the slots, with Retry-After

    # The cache comes first: what is there costs no budget and no slot. The tenant is one of
    # the arguments that make the key, so that nobody reads another's answers.
    @mlserve.cached(
        client, "answers", version=MODEL, ttl=3600, lease=5, wait=WAIT, ignore=["say"],
        on_busy="raise", on_error="deny",
    )  # fmt: skip
    async def answer(tenant, prompt, max_tokens, say):
        prompt_tokens, said = len(prompt.split()), []
        budget = asked(tenant, prompt_tokens, max_tokens)
        # What is asked for is the most that it may cost; what was said is what it costs,
        # also where the model fails or the caller hangs up.
        async with mlserve.admit(client, *budget, hold=10, wait=WAIT, on_error="deny") as admission:
            async for word in parrot(prompt, max_tokens):
                said.append(word)
                admission.actual(costs(tenant, prompt_tokens, len(said)))
                say(word)
        return said

    async def answering(tenant, call):
        """HIT or MISS, then server-sent events of the words, as they come."""
        words = asyncio.Queue()
        computing = asyncio.create_task(
            answer(tenant, call.prompt, call.max_tokens, words.put_nowait)
        )
        computing.add_done_callback(lambda _: words.put_nowait(None))
        try:
            word = await words.get()
            # Nothing was said: it is an answer that another call has made, or an error, which
            # is a status as long as nothing was sent.
            made = await computing if word is None else []
            yield "MISS" if word is not None else "HIT"
            while word is not None:
                yield event(word)
                word = await words.get()
            for word in made:
                yield event(word)
            yield f"event: done\ndata: {len(await computing)}\n\n"
        finally:
            computing.cancel()  # Whoever hangs up pays for what was said.

    @gateway.post("/v1/completions")
    async def completions(call: Completion, tenant: Tenant):
        """An answer, streamed. Who hangs up while it waits is noticed when its turn comes."""
        events = answering(tenant, call)
        headers = {"X-Cache": await anext(events)}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    @gateway.get("/v1/budget")
    async def budget(tenant: Tenant):
        """What the tenant has used."""
        used = {}
        for key in costs(tenant, 0, 0):
            info = await client.limitinfo(key)
            used[key.split(":")[1]] = info.windows[0].used if info else 0
        return used

    return gateway


def event(word):
    return f"data: {json.dumps(word)}\n\n"
