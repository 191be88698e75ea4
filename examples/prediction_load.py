"""How often a slow model is called, with and without single flight.

    python examples/prediction_load.py [--host 127.0.0.1] [--port 6379] [--clients 200]

Many clients ask at once for predictions, a few inputs far more often than the
others (as by Zipf's law), of a model that takes 50 ms and runs on as many cores
as --cores says. Answers live for a second, so that they expire again and again.
Three ways: no cache; GET and SET, as is usual; ML.CACHEFETCH, which also serves an
expired answer while one caller computes the next. Prints the model's calls and the
time to an answer. Takes about ten seconds; removes its keys.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time

import redis.asyncio
from prediction_service import Busy, Predictions

NAMESPACE = "mlserve-load"
INPUTS = 50
TTL_S = 1


class Model:
    """A model that takes its time, on so many cores."""

    def __init__(self, cores, seconds=0.05):
        self.calls = 0
        self.seconds = seconds
        self.cores = asyncio.Semaphore(cores)

    async def __call__(self, features):
        self.calls += 1
        async with self.cores:
            await asyncio.sleep(self.seconds)
        return {"score": features["input"] % 10 / 10}


def no_cache(_client, model):
    return model


def get_and_set(client, model):
    async def predict(features):
        key = f"{NAMESPACE}:plain:{features['input']}"
        value = await client.get(key)
        if value is not None:
            return json.loads(value)
        answer = await model(features)
        await client.set(key, json.dumps(answer), ex=TTL_S)
        return answer

    return predict


def cachefetch(client, model):
    predictions = Predictions(client, NAMESPACE, "v1", model, ttl_s=TTL_S, stale_ms=5_000)

    async def predict(features):
        while True:
            try:
                return await predictions.predict(features)
            except Busy as busy:
                await asyncio.sleep(busy.retry_after_ms / 1000)

    return predict


async def load(predict, clients, seconds):
    """So many clients, each asking again as soon as it is answered."""
    times = []
    end = time.monotonic() + seconds
    weights = [1 / rank for rank in range(1, INPUTS + 1)]

    async def client(seed):
        chance = random.Random(seed)
        while time.monotonic() < end:
            [number] = chance.choices(range(INPUTS), weights)
            start = time.monotonic()
            await predict({"input": number})
            times.append(time.monotonic() - start)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(client(seed) for seed in range(clients)))
    return times


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--cores", type=int, default=8)
    options = parser.parse_args()

    client = redis.asyncio.Redis(
        host=options.host, port=options.port, max_connections=options.clients + 1
    )
    try:
        await client.execute_command("ML.CACHEGET", f"{NAMESPACE}:", "v1")
    except redis.RedisError as error:
        sys.exit(f"The server at {options.host}:{options.port}: {error}")
    print(f"{options.clients} clients, {options.seconds:g} s each way, {INPUTS} inputs, "
          f"a model of 50 ms on {options.cores} cores")
    print(f"{'':14} {'answers':>8} {'model calls':>12} {'p50 ms':>8} {'p99 ms':>8}")
    try:
        for way in (no_cache, get_and_set, cachefetch):
            model = Model(options.cores)
            times = await load(way(client, model), options.clients, options.seconds)
            percentiles = statistics.quantiles(times, n=100)
            print(f"{way.__name__:14} {len(times):8} {model.calls:12} "
                  f"{percentiles[49] * 1000:8.1f} {percentiles[98] * 1000:8.1f}", flush=True)
    finally:
        async for key in client.scan_iter(f"{NAMESPACE}:*", count=1000):
            await client.unlink(key)
        await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
