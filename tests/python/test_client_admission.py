"""`mlserve.admit` as a decorator, and shared by threads and tasks."""

import asyncio
import concurrent.futures
import threading
import time
from datetime import timedelta

import mlserve
import numpy
import pytest
import redis


@pytest.fixture
def client(url):
    with mlserve.Client.from_url(url, timeout=5) as client:
        yield client


def asyncio_client(url, main):
    async def everything():
        async with mlserve.aio.Client.from_url(url, timeout=5) as client:
            return await main(client)

    return asyncio.run(everything())


def used(client, key):
    info = client.limitinfo(key)
    return info.windows[0].used if info else 0


def by_user(user, text="", **_):
    return f"user:{user}"


def test_a_decorated_function_is_let_in_by_its_arguments(url, client):
    @mlserve.admit(client, mlserve.limit("2/minute", key=by_user))
    def score(user, text=""):
        """Scores."""
        return user, text

    assert (score.__name__, score.__doc__) == ("score", "Scores.")
    assert [score(1, "a"), score(1, text="b"), score(2)] == [(1, "a"), (1, "b"), (2, "")]
    with pytest.raises(mlserve.Limited) as denied:
        score(1)
    assert 0 < denied.value.retry_after <= 60
    assert (used(client, "user:1"), used(client, "user:2")) == (2, 1)

    async def main(client):
        @mlserve.admit(client, mlserve.limit("2/minute", key=by_user), on_error="deny")
        async def score(user, text=""):
            return text

        assert await score(2, "c") == "c"
        with pytest.raises(mlserve.Limited):
            await score(2, "d")

    asyncio_client(url, main)


def test_a_decorated_function_costs_by_its_arguments(client):
    tokens = mlserve.limit("100/minute", key="{a}:tokens", cost=lambda text: len(text))
    slots = mlserve.permit(1, key="{a}:slots")

    @mlserve.admit(client, tokens, slots, hold=60)
    def answered(text):
        with pytest.raises(mlserve.Busy), mlserve.admit(client, slots, hold=60):
            pass
        return 1 / len(text)

    assert answered("12345") == 0.2
    assert used(client, "{a}:tokens") == 5
    with pytest.raises(ZeroDivisionError):
        answered("")
    assert client.limitinfo("{a}:slots") is None


def test_a_function_of_the_other_kind_is_refused_and_so_is_a_generator(url, client):
    async def awaited():
        pass

    def generator():
        yield

    async def stream():
        yield

    limited = mlserve.admit(client, mlserve.limit("1/minute", key="k"))
    with pytest.raises(TypeError, match="mlserve.client.Client lets in a plain function"):
        limited(awaited)
    for one in generator, stream:
        with pytest.raises(TypeError, match="generator"):
            limited(one)
    other = mlserve.aio.Client.from_url(url)
    with pytest.raises(TypeError, match="mlserve.aio.Client lets in an async function"):
        mlserve.admit(other, mlserve.limit("1/minute", key="k"))(lambda: None)


def test_arguments_that_make_no_key_or_cost_are_named(client):
    for options, error in [
        ({"key": lambda x: x}, "key must be str or bytes: 1"),
        ({"key": lambda x: by_user}, "key must be str or bytes: <function"),
        ({"key": "k", "cost": lambda x: -x}, "cost must be from 0"),
        ({"key": "k", "cost": lambda x: 1.5}, "cost must be an integer: 1.5"),
    ]:
        score = mlserve.admit(client, mlserve.limit("1/minute", **options))(lambda x: x)
        with pytest.raises((TypeError, ValueError), match=error):
            score(1)
    block = mlserve.admit(client, mlserve.limit("1/minute", key=by_user))
    with pytest.raises(TypeError, match="functions for a decorator"), block:
        pass
    same = [mlserve.permit(1, key=lambda x: f"slot:{x}") for _ in range(2)]
    score = mlserve.admit(client, *same, hold=5)(lambda x: x)
    with pytest.raises(ValueError, match="key is given twice"):
        score(1)


def test_a_limit_has_windows_that_close_at_a_moment(client):
    moments = iter(time.time() + hours * 3600 for hours in (1, 1, 2))
    asked = mlserve.limit(
        100, timedelta(minutes=1), 5, 30.5, 2, "MONTH", 9, mlserve.Until(lambda: next(moments)),
        key="k", cost=numpy.int64(2))
    admitted = mlserve.admit(client, asked)
    with admitted as admission:
        assert admission.decision.rows["k"].remaining == 0
    windows = [(window.window, window.limit, window.used)
               for window in client.limitinfo("k").windows]
    assert sorted(windows, key=str) == [
        ("MONTH", 2, 2), ("UNTIL", 9, 2), (30.5, 5, 2), (60.0, 100, 2)]
    with pytest.raises(mlserve.Limited, match="'k' denies: again in"), admitted:
        pass
    asked = mlserve.limit(1, "DAY", key="other", cost=2)
    with pytest.raises(mlserve.Limited, match="'other' denies: it can never fit"):
        mlserve.admit(client, asked).__enter__()


def test_what_cannot_be_asked_of_a_client_is_named(client):
    asked = mlserve.limit("1/minute", key="k")
    with pytest.raises(ValueError, match="algorithm must be FIXED, SLIDING or GCRA: 'LEAKY'"):
        mlserve.limit("1/minute", key="k", algorithm="LEAKY")
    with pytest.raises(ValueError, match="amount must be a number: '5 dollars'"):
        mlserve.micros("5 dollars")
    with pytest.raises(ValueError, match="hold must be seconds, above 0: 0"):
        mlserve.admit(client, asked, hold=0)
    with pytest.raises(TypeError, match="hold must be seconds or a timedelta: '60'"):
        mlserve.admit(client, asked, hold="60")
    for wrong in mlserve.Limit(1, 60), {"k": mlserve.Limit(1, 60)}, "1/minute":
        with pytest.raises(TypeError, match="must be made by mlserve.limit or permit"):
            mlserve.admit(client, wrong)
    for wrong in asked, None, redis.Redis():
        for make in (
            lambda client: mlserve.admit(client, asked),
            lambda client: mlserve.cached(client, "name", version="1"),
            lambda client: mlserve.Quota(client, asked),
        ):
            with pytest.raises(TypeError, match="client must be an mlserve.Client or an"):
                make(wrong)


def test_threads_share_one_admit_and_each_has_its_own_hold(client):
    slots = mlserve.admit(client, mlserve.permit(8, key="slots"), hold=60)
    inside = threading.Barrier(8)

    def work(_):
        with slots as outer:
            inside.wait(20)
            with pytest.raises(mlserve.Busy), slots:
                pass
            inside.wait(20)
            return outer.id

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            assert len(set(threads.map(work, range(8)))) == 8
            assert client.limitinfo("slots") is None


def test_tasks_share_one_admit_and_each_settles_what_it_cost(url, client):
    async def main(aio):
        tokens = mlserve.admit(aio, mlserve.limit("1000/minute", key="tokens"), hold=60)

        async def work(cost):
            async with tokens as outer:
                await asyncio.sleep(0.001 * (cost % 3))
                async with tokens as inner:
                    inner.actual(0)
                    await asyncio.sleep(0.001 * (cost % 2))
                outer.actual(cost)

        await asyncio.gather(*map(work, range(20)))

    asyncio_client(url, main)
    assert used(client, "tokens") == sum(range(20))
    assert client.limitinfo("tokens").holds == []


def test_a_block_may_be_left_by_another_task_while_it_is_the_only_one(url):
    async def main(aio):
        slots = mlserve.admit(aio, mlserve.permit(2, key="slots"), hold=60)
        for enter in range(2):
            await asyncio.create_task(slots.__aenter__())
            if not enter:
                await slots.__aexit__(None, None, None)
                assert await aio.limitinfo("slots") is None
        await asyncio.create_task(slots.__aenter__())
        with pytest.raises(RuntimeError, match="another thread or task"):
            await slots.__aexit__(None, None, None)

    asyncio_client(url, main)


def test_pitfall_clients_4_a_cancelled_admission_gives_back_what_it_took(url, client):
    async def main(aio):
        slots = mlserve.permit(1, key="{a}:slots")
        tokens = mlserve.limit("100/minute", key="{a}:tokens", cost=40)
        inside = asyncio.Event()

        async def work():
            async with mlserve.admit(aio, tokens, slots, hold=60):
                inside.set()
                await asyncio.Event().wait()

        async def wait():
            async with mlserve.admit(aio, slots, hold=60, wait=60):
                pass

        holder = asyncio.create_task(work())
        await inside.wait()
        waiter = asyncio.create_task(wait())
        while not (await aio.limitinfo("{a}:slots")).waiters:
            assert not waiter.done(), waiter.result()
            await asyncio.sleep(0.005)
        for task in waiter, holder:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio_client(url, main)
    assert client.limitinfo("{a}:slots") is None
    assert used(client, "{a}:tokens") == 0
