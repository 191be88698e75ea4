"""Quota leasing: never over the limit, held to the moments at which units are handed out."""

import asyncio
import bisect
import contextlib
import itertools
import math
import multiprocessing
import os
import random
import socket
import threading
import time
from fractions import Fraction

import mlserve
import mlserve.quota
import mlserve.server
import pytest
from conftest import until
from mlserve._steps import run

# --- a simulation --------------------------------------------------------------
#
# Leasers, a network and a server in a time of their own. The server is the documented
# behaviour of ML.RATELIMIT PARTIAL HOLD and ML.SETTLE, kept as lists that are summed up.


class Sliding:
    """Charges with their moments; each weighs for every window that a call names."""

    def __init__(self):
        self.charges, self.past = [], []

    def room(self, pairs, burst, now):
        found = []
        for limit, window in pairs:
            weighs = sum(cost for at, cost, _ in self.charges if at + window > now)
            found.append(limit - weighs)
        longest = max(window for _, window in pairs)
        self.past += [one for one in self.charges if one[0] + 2 * longest <= now]
        self.charges = [one for one in self.charges if one[0] + 2 * longest > now]
        return max(min(found), 0)

    def charge(self, cost, id, pairs, now):
        self.charges.append([now, cost, id])

    def settle(self, id, actual, now):
        for charge in self.charges + self.past:
            if charge[2] == id:
                charge[1] = actual

    def resets(self, pairs, now):
        return max(window for _, window in pairs)

    @staticmethod
    def check(units, limit, window, burst):
        for place, first in enumerate(units):
            within = bisect.bisect_left(units, first + window) - place
            assert within <= limit, f"{within} of {limit} from {first}"


class Bucket:
    """A token bucket: what it lacks, of which charge, the oldest paid off first."""

    def __init__(self):
        self.debts = []
        self.at = 0

    def room(self, pairs, burst, now):
        ((limit, window),) = pairs
        paid = max(now - self.at, 0) * Fraction(limit, window)
        self.at = max(now, self.at)
        self.debts = [debt for debt in self.debts if debt[0]]
        for debt in self.debts:
            part = min(paid, debt[0])
            debt[0] -= part
            paid -= part
        return max(math.floor(burst - sum(debt for debt, _ in self.debts)), 0)

    def charge(self, cost, id, pairs, now):
        self.debts.append([Fraction(cost), (id, cost)])

    def settle(self, id, actual, now):
        for debt in self.debts:
            if debt[1][0] == id:
                debt[0] -= min(debt[1][1] - actual, debt[0])

    def resets(self, pairs, now):
        return 1

    @staticmethod
    def check(units, limit, window, burst):
        # From no unit on are there more than the burst and what has flowed in since.
        most = -math.inf
        for place, at in enumerate(units):
            spare = at * Fraction(limit, window) - place
            most = max(most, spare)
            over = most - spare + 1 - burst
            assert over <= 0, f"{float(over)} over {burst} and {limit} in {window} at {at}"


class Fixed:
    """A window that opens with its first charge."""

    def __init__(self):
        self.opened = None
        self.number = 0
        self.used = {}

    def open_now(self, pairs, now):
        ((_, window),) = pairs
        return self.opened is not None and now < self.opened + window

    def room(self, pairs, burst, now):
        ((limit, _),) = pairs
        return limit - sum(self.used.values()) if self.open_now(pairs, now) else limit

    def charge(self, cost, id, pairs, now):
        if not self.open_now(pairs, now):
            self.opened, self.used = now, {}
            self.number += 1
        self.used[id] = cost

    def settle(self, id, actual, now):
        if id in self.used:
            self.used[id] = actual

    def resets(self, pairs, now):
        ((_, window),) = pairs
        return self.opened + window - now if self.open_now(pairs, now) else 0


class Simulation(mlserve.Client):
    """Several leasers of one limit, whose calls take time and get lost."""

    def __init__(self, seed, monkeypatch, *, faults=True, **given):
        self.random = pick = random.Random(seed)
        # Microseconds.
        self.time, self.behind, self.depth = 10**9, 0, 0
        self.faults = faults
        self.away = False
        self.algorithm = pick.choice(["SLIDING", "GCRA", "FIXED"])
        self.limit = pick.randint(1, 40)
        self.window = pick.choice([1, 2, 60])
        # More than flows in during the longest life.
        self.burst = pick.randint(self.limit // 3 + 3, 2 * self.limit + 3)
        self.known = {}
        self.units, self.by_window = [], {}
        self.denials, self.retries, self.lapsed = 0, 0, 0
        self.busy = set()
        self.life = pick.choice([None, self.window / 3, self.window / 50])
        vars(self).update(given)
        self.server = {"SLIDING": Sliding, "GCRA": Bucket, "FIXED": Fixed}[self.algorithm]()
        monkeypatch.setattr(mlserve.quota, "now", lambda: self.time / 1e6)
        # Blocks that nobody takes from are given back in the time of the simulation.
        monkeypatch.setattr(mlserve.Quota, "_watch", lambda quota: None)
        mlserve.breaker_of(self).failures = 10**9
        self.leasers = [self.leaser() for _ in range(pick.randint(1, 4))]

    def leaser(self, block=None):
        asked = mlserve.limit(
            f"{self.limit}/{self.window} seconds", key="k", algorithm=self.algorithm,
            burst=self.burst if self.algorithm == "GCRA" else None)
        terms = mlserve.quota.Terms(asked, self.life)
        if block is None:
            block = self.random.choice([None, 1, terms.capacity // 2, terms.capacity])
        return mlserve.Quota(self, asked, block=block or None, life=self.life)

    def clock(self):
        return self.time - self.behind

    def pass_time(self, most):
        self.time += self.random.randrange(1, max(int(most * 1e6), 2))

    # The client that the leasers have.

    def run(self, call):
        pick = self.random
        if self.away:
            self.pass_time(0.01)
            raise mlserve.Unavailable("away", sent=pick.random() < 0.5)
        self.on_the_way()
        answer = self.carry_out(call.words)
        self.on_the_way()
        if self.faults and pick.random() < 0.1:
            if not call.again or pick.random() < 0.5:
                raise mlserve.TimedOut("lost", sent=True)
            # Once more, under the same id, perhaps when the window is another.
            self.pass_time(self.window / 4)
            self.retries += 1
            answer = self.carry_out(call.words)
            self.on_the_way()
        return call.read(answer)

    def on_the_way(self):
        """Others go on while a call is on its way."""
        self.depth += 1
        for _ in range(self.random.randrange(3)):
            self.pass_time(self.window / self.random.choice([3000, 300, 30]))
            if self.depth < 3:
                self.take()
        self.depth -= 1

    def carry_out(self, words):
        words, now = list(words), self.clock()
        if words[0] == "ML.SETTLE":
            if self.known.get(words[3]) is not None:
                self.server.settle(words[3], words[5], now)
                self.known[words[3]] = None
            return [1]
        places = {word: place for place, word in enumerate(words) if isinstance(word, str)}
        assert words[places["ALGORITHM"] + 1] == self.algorithm
        numbers = [float(word) for word in words[2 : places["ALGORITHM"]]]
        pairs = [(int(limit), round(window * 1e6))
                 for limit, window in zip(numbers[::2], numbers[1::2], strict=True)]  # fmt: skip
        cost = words[places["COST"] + 1] if "COST" in places else 1
        burst = words[places["BURST"] + 1] if "BURST" in places else None
        room = int(self.server.room(pairs, burst, now))
        if "PEEK" in places:
            return [0, 1, room, 0 if room >= cost else 5, 0]
        id = words[places["ID"] + 1]
        granted = self.known.get(id)
        if granted is None:
            granted = min(cost, room)
            if granted:
                self.server.charge(granted, id, pairs, now)
                self.known[id] = granted
        resets = math.ceil(self.server.resets(pairs, now) / 1000)
        return [granted, 1, 0, 0 if granted == cost else 5, resets, id.encode()]

    # What happens.

    def take(self):
        free = [one for one in self.leasers if one not in self.busy]
        if not free:
            return
        self.take_of(self.random.choice(free), self.random.choice([1, 1, 1, 2, 3]))

    def take_of(self, leaser, cost):
        """Whether it was let in."""
        self.busy.add(leaser)
        try:
            leaser.take(cost)
        except mlserve.Limited as denied:
            assert denied.retry_after > 0
            self.denials += 1
            return False
        except mlserve.Unavailable as lost:
            # A block may be over before it came, where others went on meanwhile.
            assert self.faults or "life" in str(lost)
            return False
        else:
            self.units += [self.time] * cost
            if self.algorithm == "FIXED":
                number = self.server.number
                assert self.server.open_now([(self.limit, self.window * 10**6)], self.clock())
                self.by_window[number] = self.by_window.get(number, 0) + cost
            return True
        finally:
            self.busy.discard(leaser)

    def lapse_of(self, leaser):
        held = leaser._block.id is not None
        self.busy.add(leaser)
        run(self, leaser._lapse())
        self.busy.discard(leaser)
        self.lapsed += held and leaser._block.id is None

    def go_on(self, steps):
        pick = self.random
        for _ in range(steps):
            self.pass_time(self.window / pick.choice([5000, 200, 50, 10]))
            for _ in range(pick.choice([1, 1, 2, self.limit])):
                self.take()
            if pick.random() < 0.3:
                self.pass_time(self.window / pick.choice([100, 20, 2]))
                for leaser in self.leasers:
                    self.lapse_of(leaser)
            chance = pick.random()
            if not self.faults:
                continue
            if chance < 0.01:
                # Dies with all it has; another takes its place.
                self.leasers[pick.randrange(len(self.leasers))] = self.leaser()
            elif chance < 0.02:
                closing = self.leasers.pop(pick.randrange(len(self.leasers)))
                with contextlib.suppress(mlserve.Unavailable):
                    closing.close()
                self.leasers.append(self.leaser())
            elif chance < 0.03:
                self.behind += self.window * 10**6 // pick.choice([2, 10, 100])
            elif chance < 0.05:
                self.away = not self.away
            elif chance < 0.06:
                self.pass_time(2 * self.window)

    def check(self):
        if self.algorithm == "FIXED":
            assert all(used <= self.limit for used in self.by_window.values())
        else:
            self.server.check(self.units, self.limit, self.window * 10**6, self.burst)


def test_no_window_holds_more_than_the_limit_whatever_happens(monkeypatch):
    handed_out = denied = retries = lapsed = 0
    for seed in range(50):
        simulation = Simulation(seed, monkeypatch)
        try:
            simulation.go_on(120)
            simulation.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {simulation.algorithm}: {error}") from error
        handed_out += len(simulation.units)
        denied += simulation.denials
        retries += simulation.retries
        lapsed += simulation.lapsed
    # Of what it is to find there was enough.
    assert handed_out > 5000 and denied > 500 and retries > 50 and lapsed > 100


@pytest.mark.parametrize("algorithm", ["SLIDING", "GCRA", "FIXED"])
def test_a_block_that_is_handed_out_at_its_last_moment_keeps_to_the_limit(monkeypatch, algorithm):
    second = 10**6
    simulation = Simulation(
        1, monkeypatch, faults=False, algorithm=algorithm, limit=30, window=60, burst=30, life=20)
    monkeypatch.setattr(simulation, "on_the_way", lambda: None)
    prompt, late = simulation.leaser(block=1), simulation.leaser(block=20)
    assert simulation.take_of(prompt, 1)
    # Near the end of a fixed window.
    simulation.time += 50 * second
    assert simulation.take_of(late, 1)
    for step in [19, 1, *[5] * 30]:
        simulation.time += step * second
        for leaser in late, prompt:
            while simulation.take_of(leaser, 1):
                pass
    assert len(simulation.units) > 60
    simulation.check()


def test_what_is_not_handed_out_is_given_back(monkeypatch):
    for seed in range(60):
        simulation = Simulation(seed, monkeypatch, faults=False)
        if simulation.algorithm != "SLIDING":
            continue
        simulation.go_on(60)
        while simulation.leasers:
            simulation.leasers.pop().close()
        charges = simulation.server.charges + simulation.server.past
        charged = sum(cost for _, cost, _ in charges)
        assert charged == len(simulation.units)


# --- a server ------------------------------------------------------------------


@pytest.fixture
def client(url):
    with mlserve.Client.from_url(url, timeout=5) as client:
        yield client


def used(client, key="k"):
    """What is charged in the first window."""
    info = client.limitinfo(key)
    return info.windows[0].used if info else 0


def lease_in_process(url, algorithm, seconds, moments):
    """Four threads that take all the time, and the moments that were decided by."""
    taken, here = [], threading.local()
    clock = mlserve.quota.now

    def remembered():
        here.now = clock()
        return here.now

    mlserve.quota.now = remembered
    asked = mlserve.limit("100/second", key="k", algorithm=algorithm)
    until = clock() + seconds
    with (
        mlserve.Client.from_url(url, timeout=5) as client,
        mlserve.Quota(client, asked, life=0.5) as quota,
    ):

        def work():
            while clock() < until:
                try:
                    quota.take()
                except mlserve.Limited as denied:
                    time.sleep(min(denied.retry_after, 0.01))
                except mlserve.Unavailable:
                    # The machine had a block come late.
                    continue
                else:
                    taken.append(here.now)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    moments.put(taken)


@pytest.mark.parametrize("algorithm", ["SLIDING", "GCRA", "FIXED"])
def test_processes_of_threads_lease_no_more_than_the_limit(url, algorithm):
    context = multiprocessing.get_context("fork")
    moments = context.Queue()
    processes = [
        context.Process(target=lease_in_process, args=(url, algorithm, 3.5, moments))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    units = sorted(itertools.chain.from_iterable(moments.get(timeout=60) for _ in processes))
    for process in processes:
        process.join()
    assert len(units) > 100
    if algorithm == "SLIDING":
        Sliding.check(units, 100, 1, None)
    elif algorithm == "GCRA":
        Bucket.check([int(at * 1e6) for at in units], 100, 10**6, 100)
    else:
        # The first may be of a window that is nearly over, each of the others lasts a second.
        assert len(units) <= 100 * (math.floor(units[-1] - units[0]) + 2)


def test_a_block_of_a_fixed_window_is_not_asked_for_twice():
    # The second answer might tell of the window after the one that was charged.
    for algorithm, again in {"FIXED": False, "SLIDING": True, "GCRA": True}.items():
        asked = mlserve.limit("100/minute", key="k", algorithm=algorithm)
        assert mlserve.quota.Terms(asked, None).call(1, "0" * 32).again == again


def test_a_block_is_handed_out_here_and_the_rest_given_back(client):
    asked = mlserve.limit("100/minute; 1000/hour", key="k", cost=2)
    with mlserve.Quota(client, asked, block=10, life=30) as quota:
        for _ in range(5):
            quota.take()
        assert used(client) == 10
        quota.take(1)
        assert used(client) == 20
        assert len(client.limitinfo("k").holds) == 1
    assert used(client) == 11 and client.limitinfo("k").holds == []
    lengths = sorted(window.window for window in client.limitinfo("k").windows)
    assert lengths == [60, 90, 3600, 3630]
    with pytest.raises(ValueError, match="closed"):
        quota.take()
    quota.close()


def watchers():
    return [one for one in threading.enumerate() if one.name == "mlserve-quota"]


def test_a_block_that_nobody_takes_from_is_given_back(client):
    quota = mlserve.Quota(client, mlserve.limit("100/minute", key="k"), block=50, life=1.5)
    until(lambda: not watchers())  # Of the tests before.
    for expected in (1, 2):
        quota.take()
        assert len(watchers()) == 1
        until(lambda expected=expected: used(client) == expected)
        assert client.limitinfo("k").holds == []
        until(lambda: not watchers())
    # Of one that is forgotten, too.
    quota.take()
    del quota
    until(lambda: used(client) == 3)
    with mlserve.Quota(client, mlserve.limit("100/minute", key="k")) as quota:
        quota.take()
        assert watchers()
    until(lambda: not watchers())


def test_a_block_that_no_task_takes_from_is_given_back(url, client):
    async def main():
        async with mlserve.aio.Client.from_url(url, timeout=5) as aio:
            asked = mlserve.limit("100/minute", key="k")
            quota = mlserve.Quota(aio, asked, block=50, life=1.5)
            for expected in (1, 2):
                await quota.atake()
                assert len(quota._timers) == 1
                while (await aio.limitinfo("k")).windows[0].used > expected:
                    await asyncio.sleep(0.01)
                while quota._timers:
                    await asyncio.sleep(0)
            await quota.atake()
            await quota.aclose()
            assert not quota._timers and used(client) == 3
            await mlserve.Quota(aio, asked, block=50, life=30).atake()
        # A loop that ends leaves nothing that runs.
        return [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]

    assert asyncio.run(main()) == []


def test_what_is_denied_says_how_long_and_does_not_ask_again(client):
    with mlserve.Quota(client, mlserve.limit("5/minute", key="k"), life=10, block=5) as quota:
        for _ in range(5):
            quota.take()
        with pytest.raises(mlserve.Limited) as first:
            quota.take()
        # Others give back, which is not asked about.
        client.command("DEL", "k")
        with pytest.raises(mlserve.Limited) as second:
            quota.take()
        assert 0 < second.value.retry_after <= first.value.retry_after <= 70
        with pytest.raises(mlserve.Limited) as never:
            quota.take(6)
        assert never.value.retry_after == math.inf
    with mlserve.Quota(client, mlserve.limit("5/3 seconds", key="l"), life=1.5, block=5) as quota:
        for cost in (3, 2):
            quota.take(cost)
        with pytest.raises(mlserve.Limited) as denied:
            quota.take(3)
        time.sleep(denied.value.retry_after)
        quota.take(3)


def test_the_wait_for_several_units_is_that_for_what_is_missing(client):
    client.ratelimit("k", 10, 600, cost=8, algorithm="SLIDING")
    with mlserve.Quota(client, mlserve.limit("10/10 minutes", key="k")) as quota:
        with pytest.raises(mlserve.Limited) as denied:
            quota.take(3)
        assert 599 < denied.value.retry_after <= 630
        # What there is is handed out all the same.
        quota.take(2)


def test_blocks_grow_with_what_is_taken(client):
    with mlserve.Quota(client, mlserve.limit("100000/hour", key="k")) as quota:
        for _ in range(5000):
            quota.take()
        assert quota._size > 2000
        assert used(client) < 9000
    assert used(client) == 5000


def test_callers_who_do_not_lease_are_seen(client):
    client.ratelimit("k", 10, 60, cost=7, algorithm="SLIDING")
    with mlserve.Quota(client, mlserve.limit("10/minute", key="k"), block=10) as quota:
        for _ in range(3):
            quota.take()
        with pytest.raises(mlserve.Limited):
            quota.take()
        assert not client.ratelimit("k", 10, 60, algorithm="SLIDING")


def test_tasks_lease_by_one_block_at_a_time(url, client):
    async def main():
        async with mlserve.aio.Client.from_url(url, timeout=5) as aio:
            async with mlserve.Quota(aio, mlserve.limit("100/minute", key="k"), block=8) as quota:
                done = await asyncio.gather(
                    *(quota.atake() for _ in range(120)), return_exceptions=True)
                assert done.count(None) == 100
                assert all(isinstance(one, mlserve.Limited) for one in done if one)
            with pytest.raises(TypeError, match="atake"):
                mlserve.Quota(aio, mlserve.limit("1/minute", key="l")).take()

    asyncio.run(main())
    assert used(client) == 100


def test_pitfall_clients_4_a_cancelled_fill_gives_its_block_back(url, client):
    class Slow(mlserve.aio.Client):
        async def run(self, call):
            answer = await super().run(call)
            if call.name == "ML.RATELIMIT":
                arrived.set()
                await asyncio.Event().wait()
            return answer

    arrived = asyncio.Event()

    async def main():
        async with Slow.from_url(url, timeout=5) as aio:
            quota = mlserve.Quota(aio, mlserve.limit("100/minute", key="k"), block=50)
            taking = asyncio.create_task(quota.atake())
            await arrived.wait()
            assert used(client) == 50
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking

    asyncio.run(main())
    assert used(client) == 0


def test_pitfall_clients_4_an_event_loop_closed_under_a_quota(url):
    aio = mlserve.aio.Client.from_url(url, timeout=5)
    quota = mlserve.Quota(aio, mlserve.limit("9/minute", key="k"), block=1)

    async def taken():
        return await asyncio.gather(*(quota.atake() for _ in range(3)))

    for _ in range(3):
        asyncio.run(taken())
    with pytest.raises(mlserve.Limited):
        asyncio.run(taken())


def test_pitfall_clients_4_a_fork_takes_no_block_with_it(client):
    quota = mlserve.Quota(client, mlserve.limit("100/minute", key="k"), block=20, life=30)
    quota.take()

    def child(answers):
        for _ in range(20):
            quota.take()
        quota.close()
        answers.put(True)

    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=child, args=[answers])
    process.start()
    assert answers.get(timeout=30)
    process.join()
    for _ in range(19):
        quota.take()
    assert used(client) == 40
    quota.close()


def test_a_leaser_that_dies_leaves_its_block_charged(url, client):
    def child():
        with mlserve.Client.from_url(url, timeout=5) as other:
            mlserve.Quota(other, mlserve.limit("100/minute", key="k"), block=60).take()
            os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    with mlserve.Quota(client, mlserve.limit("100/minute", key="k"), block=60) as quota:
        for _ in range(40):
            quota.take()
        with pytest.raises(mlserve.Limited):
            quota.take()


@pytest.mark.parametrize("policy", ["allow", "deny", "raise"])
def test_pitfall_clients_1_the_server_goes_away_under_a_quota(module, policy):
    from conftest import servers

    path = next(iter(servers().values()))
    with mlserve.server.Server(server=path, module=str(module)) as server:
        client = mlserve.Client.from_url(server.url, timeout=5)
        quota = mlserve.Quota(
            client, mlserve.limit("100/hour", key="k"), block=10, on_error=policy)
        quota.take()
    # What is here is handed out.
    for _ in range(9):
        quota.take()
    error = {"deny": mlserve.Busy, "raise": mlserve.Unavailable}.get(policy)
    for _ in range(10):
        with pytest.raises(error) if error else contextlib.nullcontext():
            quota.take()
    quota.close()


def test_pitfall_clients_1_who_waits_for_another_waits_no_longer_than_it():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Takes connections, and never answers.
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with mlserve.Client.from_url(url, timeout=0.3) as client:
            # Never opens.
            mlserve.breaker_of(client).failures = 10**9
            quota = mlserve.Quota(client, mlserve.limit("100/hour", key="k"))
            asked, run = [], client.run
            client.run = lambda call: (asked.append(call), run(call))
            begun, failed = threading.Barrier(8), []

            def work():
                begun.wait()
                try:
                    quota.take()
                except mlserve.Unavailable as error:
                    failed.append(error)

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert len(failed) == 8
    # A thread that the machine held back may have come late.
    assert len(asked) < 8


@pytest.mark.parametrize(("asked", "options", "error"), [
    (mlserve.permit(8, key="k"), {}, "a quota is of what mlserve.limit makes"),
    (mlserve.Limit(8, 60), {}, "a quota is of what mlserve.limit makes"),
    (mlserve.limit("1/minute", key=str), {}, "key and cost must be values"),
    (mlserve.limit("1/minute", key="k", queue=3), {}, "queue is for calls that wait"),
    (mlserve.limit("1/minute", key="k", burst=3), {}, 'burst is for algorithm="GCRA"'),
    (mlserve.limit(9, "DAY", key="k"), {}, "rate must be in seconds, .*: 'DAY'"),
    (mlserve.limit(9, mlserve.Until(2e9), key="k"), {}, "rate must be in seconds"),
    (mlserve.limit("1/second; 9/minute", key="k", algorithm="FIXED"), {}, "SLIDING for several"),
    (mlserve.limit("1/minute", key="k", algorithm="GCRA"), {}, "burst must be larger, or life"),
    (mlserve.limit("60/minute", key="k", algorithm="gcra"), {"life": 60}, "60 flow in during"),
    (mlserve.limit("1/1 seconds; 1/2 seconds", key="k"), {"life": 1}, "life must be another"),
    (mlserve.limit(";".join(f"1/{n} days" for n in range(1, 6)), key="k"), {}, "4 windows at"),
    (mlserve.limit("9/minute", key="k"), {"life": 61}, "life must be from 0.001 to 60 seconds"),
    (mlserve.limit("9/minute", key="k"), {"life": 0}, "life must be from 0.001 to 60 seconds"),
    (mlserve.limit("9/minute", key="k"), {"block": 0}, "block must be from 1 to 9: 0"),
    (mlserve.limit("9/minute", key="k"), {"block": 10}, "block must be from 1 to 9: 10"),
    (mlserve.limit("9/minute", key="k"), {"block": 1.5}, "block must be an integer"),
    (mlserve.limit("9/minute", key="k"), {"on_error": "no"}, "on_error must be"),
])  # fmt: skip
def test_what_cannot_be_guaranteed_is_refused(client, asked, options, error):
    with pytest.raises((ValueError, TypeError), match=error):
        mlserve.Quota(client, asked, **options)


def test_a_cost_that_is_none_is_refused(client):
    quota = mlserve.Quota(client, mlserve.limit("9/minute", key="k"), block=9)
    quota.take()
    for cost in (-1, 1.5, True):
        with pytest.raises((ValueError, TypeError), match="cost"):
            quota.take(cost)
    quota.take(0)
    quota.close()
    assert used(client) == 1
