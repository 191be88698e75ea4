"""A FastAPI service: limited, cached and fed with features. Which complaint to answer first.

    pip install -r examples/requirements.txt              # at the top of the repository
    uvicorn --factory prediction_service:app --port 8000  # in this folder
    redis-cli HSET user:123 avg_order 84.50 n_sessions 12
    curl 'localhost:8000/urgency?user=123&text=It+leaks'

Wants a server that has the module loaded, at REDIS_URL (redis://127.0.0.1:6379).
MODEL_VERSION is v1 or v2 of reviews.py: two processes, one of each, may run side by side.
"""

import asyncio
import math
import os
from contextlib import asynccontextmanager
from typing import Annotated

import mlserve
import mlserve.fastapi
from fastapi import Depends, FastAPI, HTTPException, Query, Request

import reviews

REQUESTS = "100/minute"  # of a user
FEATURES = ["avg_order", "n_sessions"]


def app():
    version = os.environ.get("MODEL_VERSION", "v1")
    model = reviews.train(version)
    client = mlserve.aio.Client.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))

    @asynccontextmanager
    async def lifespan(_):
        yield
        await client.aclose()

    service = FastAPI(lifespan=lifespan)
    mlserve.fastapi.install(service)

    def by_user(request: Request):
        return mlserve.limit(REQUESTS, key=f"rate:user:{request.query_params.get('user', '')}")

    # While the cache is away nobody is kept out, and predictions are computed.
    limited = Depends(mlserve.fastapi.admitted(client, by_user, on_error="allow"))

    # For a minute after its hour an answer is served while one caller computes the next; a
    # model that fails is left in peace for a second.
    @mlserve.cached(client, "pred", version=version, ttl=3600, stale=60, early=1, backoff=1)
    async def p_good(text):
        return await asyncio.to_thread(reviews.p_good, model, text)

    features = client.features(FEATURES)

    @service.get("/urgency", dependencies=[limited])
    async def urgency(user: str, text: Annotated[str, Query(max_length=10_000)]):
        """What is at stake with a complaint: the order's worth, by how bad the review is."""
        try:
            good, found = await asyncio.gather(p_good(text), features([f"user:{user}"]))
        except mlserve.Unavailable:
            raise HTTPException(503, "no features", headers={"Retry-After": "1"}) from None
        avg_order, n_sessions = (
            0.0 if math.isnan(value) else value for value in found.numpy()[0].tolist()
        )
        worth = avg_order * (1 + math.log1p(n_sessions))
        return {"version": version, "p_good": good, "urgency": (1 - good) * worth}

    return service
