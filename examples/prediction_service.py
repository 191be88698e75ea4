"""A prediction service around a slow model, with the answers kept in mlserve.

    pip install redis fastapi uvicorn
    uvicorn prediction_service:app --port 8000          # in this folder
    curl 'localhost:8000/predict?text=a+fine+kettle'

Wants a Redis that has the module loaded, at REDIS_URL (redis://127.0.0.1:6379).

`Predictions` is made to be copied. Of all requests for an answer that is not
there, over all processes of the service, one computes it; the others wait in
the server and have it the moment it is set.
"""

import asyncio
import hashlib
import json
import logging
import os
import time

import redis.asyncio


class Busy(Exception):
    """Nobody has the answer yet, and the wait is over: try again later."""

    def __init__(self, retry_after_ms):
        super().__init__(f"busy, retry in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class Retired(Exception):
    """This version of the model is out of force: this process serves an old one."""


class Predictions:
    """The answers of one version of a model.

    `model` is an async function from the input to anything that JSON can hold.
    `client` answers bytes, as redis-py does unless told otherwise, and has a
    connection for each request at a time: whoever waits keeps one.
    Keys are `namespace:hash of the input`; ML.CACHEVERSIONSET names
    the namespace.
    """

    def __init__(self, client, namespace, version, model, *, ttl_s=3600, stale_ms=60_000,
                 lease_ms=5_000, wait_ms=2_000, backoff_ms=1_000):
        self.client = client
        self.namespace = namespace
        self.version = version
        self.model = model
        self.ttl_s = ttl_s
        # How long an answer past its time is served while a new one is computed.
        self.stale_ms = stale_ms
        # How long a computation may take: a good deal longer than it does.
        self.lease_ms = lease_ms
        # Less than the socket_timeout of the client (5 s in redis-py): at that it
        # would hang up and ask anew, again and again.
        self.wait_ms = wait_ms
        # How long nobody tries again after the model has failed.
        self.backoff_ms = backoff_ms

    def key(self, features):
        text = json.dumps(features, sort_keys=True)
        return f"{self.namespace}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    async def predict(self, features):
        """The answer for this input. Raises Busy, Retired, or, when there is no older
        answer to give, what the model raises."""
        key = self.key(features)
        status, value, token, ms = await self.client.execute_command(
            "ML.CACHEFETCH", key, self.version,
            "LEASE", self.lease_ms, "WAIT", self.wait_ms, "EARLY", 1,
        )
        if status in (b"HIT", b"STALE"):
            return json.loads(value)
        if status == b"RETIRED":
            raise Retired(f"version {self.version} of {self.namespace} is not in force")
        if status == b"BUSY":
            raise Busy(ms)
        try:
            return await self.compute(key, features, token)
        except Exception:
            # A lease comes with the answer that is to be replaced, if there is one.
            if value is None:
                raise
            logging.exception("%s: the model failed, its last answer is given", key)
            return json.loads(value)

    async def compute(self, key, features, token):
        """It is on this caller: all others wait for what it sets."""
        try:
            answer = await self.model(features)
            value = json.dumps(answer)
        except BaseException as error:
            # A model that failed is left in peace, and those who wait are told at
            # once. Where only this request was cancelled, the next one computes.
            backoff = ("BACKOFF", self.backoff_ms) if isinstance(error, Exception) else ()
            await self.client.execute_command("ML.CACHERELEASE", key, token, *backoff)
            raise
        # Answers nil when the lease has passed on, or the version was retired:
        # then the answer is good for this caller, but not for the cache.
        await self.client.execute_command(
            "ML.CACHESET", key, self.version, value, "TOKEN", token,
            "EX", self.ttl_s, "JITTER", 10, "STALE", self.stale_ms,
        )
        return answer


# From here on: a service, with a model that takes its time.


async def slow_model(features):
    await asyncio.sleep(0.2)
    return {"score": len(features["text"]) % 10 / 10, "computed_at": time.time()}


def create_app(url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")):
    from fastapi import FastAPI, HTTPException

    client = redis.asyncio.Redis.from_url(url, max_connections=1000)
    predictions = Predictions(client, "sentiment", os.environ.get("MODEL_VERSION", "v1"), slow_model)
    service = FastAPI()

    @service.get("/predict")
    async def predict(text: str):
        try:
            return await predictions.predict({"text": text})
        except Busy as busy:
            seconds = str(busy.retry_after_ms // 1000 + 1)
            raise HTTPException(503, str(busy), headers={"Retry-After": seconds})
        except Retired as retired:
            # The load balancer should take this process out: a new one is there.
            raise HTTPException(410, str(retired))

    return service


def __getattr__(name):
    """Makes `app` when uvicorn asks for it, so that `Predictions` can be imported
    without FastAPI."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
