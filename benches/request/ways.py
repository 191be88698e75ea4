"""The ways to make a request. Each is a generator of round trips: it yields the commands
that go together, is sent their answers, and returns how the request ended, and with what.
So one text of it serves every client, with await and without."""

import hashlib
from dataclasses import dataclass
from typing import Callable

import numpy
from mlserve import FieldList, Status, calls

from ..peers import FIXED_WINDOW
from .mix import DENIED, FIELDS, HIT, LIMIT, LIST, MISS, VERSION, WINDOW

LEASE = 60_000
SCRIPT = hashlib.sha1(FIXED_WINDOW.encode()).hexdigest()
REFUSED = DENIED, None


@dataclass(frozen=True)
class Way:
    """A way to make a request, and whether what it reads was written by the module."""

    steps: Callable
    with_module: bool = True

    def driven(self, ask):
        """A request, given a function that makes a round trip."""
        def outcome(request):
            steps, answers = self.steps(request), None
            try:
                while True:
                    answers = ask(steps.send(answers))
            except StopIteration as end:
                return end.value

        return outcome

    def awaited(self, ask):
        """The same for one to be awaited."""
        async def outcome(request):
            steps, answers = self.steps(request), None
            try:
                while True:
                    answers = await ask(steps.send(answers))
            except StopIteration as end:
                return end.value

        return outcome


# By hand.

def counted(request):
    key = f"rate:{request.user}"
    return [("INCR", key), ("EXPIRE", key, WINDOW, "NX")]


def get(request):
    return "GET", f"pred:{VERSION}:{request.digest}"


def hmget(request):
    return "HMGET", f"user:{request.user}", *FIELDS


def answered(answer, texts):
    return (HIT, answer) if answer is not None else (MISS, list(map(float, texts)))


def by_hand(request):
    used, _ = yield counted(request)
    if used > LIMIT:
        return REFUSED
    return (yield from after_the_limit(request))


def by_hand_with_a_script(request):
    [granted] = yield [("EVALSHA", SCRIPT, 1, f"rate:{request.user}", LIMIT, WINDOW)]
    if not granted:
        return REFUSED
    return (yield from after_the_limit(request))


def after_the_limit(request):
    [answer] = yield [get(request)]
    if answer is not None:
        return HIT, answer
    [texts] = yield [hmget(request)]
    return answered(answer, texts)


def by_hand_at_once(request):
    used, _, answer, texts = yield [*counted(request), get(request), hmget(request)]
    return answered(answer, texts) if used <= LIMIT else REFUSED


# With the module. Whoever has a lease has it by an id of its own, so that a call may be
# repeated after a lost connection.

def ratelimit(request):
    return "ML.RATELIMIT", f"rate:{request.user}", LIMIT, WINDOW


def cachefetch(request):
    return "ML.CACHEFETCH", f"pred:{request.digest}", VERSION, "LEASE", LEASE, "TOKEN", request.trace


def featureget(request):
    return "ML.FEATUREGET", 1, f"user:{request.user}", "FIELDS", f"@{LIST}", "AS", "TENSOR"


def release(request):
    return "ML.CACHERELEASE", f"pred:{request.digest}", request.trace


def numbers(tensor):
    return numpy.frombuffer(tensor[3], "<f4")


def in_trips(request):
    [limit] = yield [ratelimit(request)]
    if not limit[0]:
        return REFUSED
    [fetch] = yield [cachefetch(request)]
    if fetch[0] == b"HIT":
        return HIT, fetch[1]
    [tensor] = yield [featureget(request)]
    return MISS, numbers(tensor)


def at_once(request):
    limit, fetch, tensor = yield [ratelimit(request), cachefetch(request), featureget(request)]
    if not limit[0]:
        if fetch[0] == b"LEASE":  # Others would wait for an answer that does not come.
            yield [release(request)]
        return REFUSED
    return (HIT, fetch[1]) if fetch[0] == b"HIT" else (MISS, numbers(tensor))


def serve(request):
    [[admission, fetch, tensor]] = yield [(
        "ML.SERVE", 3, f"rate:{request.user}", f"pred:{request.digest}", f"user:{request.user}",
        "ADMIT", "LIMIT", LIMIT, WINDOW, "CACHE", VERSION, "LEASE", LEASE, "TOKEN", request.trace,
        "FEATURES", "FIELDS", f"@{LIST}", "AS", "TENSOR")]
    if not admission[0]:
        return REFUSED
    return (HIT, fetch[1]) if fetch[0] == b"HIT" else (MISS, numbers(tensor))


# With the module's own client: the same as calls that it describes.

FEATURES = calls.Asked(FieldList(LIST, FIELDS), "f4")


def limit_call(request):
    return calls.ratelimit(f"rate:{request.user}", LIMIT, WINDOW)


def fetch_call(request):
    return calls.cachefetch(f"pred:{request.digest}", VERSION, LEASE / 1000, token=request.trace)


def features_call(request):
    return FEATURES.of([f"user:{request.user}"])


def client_in_trips(request):
    [limit] = yield [limit_call(request)]
    if not limit:
        return REFUSED
    [fetch] = yield [fetch_call(request)]
    if fetch.status is Status.HIT:
        return HIT, fetch.value
    [tensor] = yield [features_call(request)]
    return MISS, tensor.numpy()[0]


def client_at_once(request):
    limit, fetch, tensor = yield [limit_call(request), fetch_call(request), features_call(request)]
    if not limit:
        if fetch.status is Status.LEASE:
            yield [calls.cacherelease(f"pred:{request.digest}", request.trace)]
        return REFUSED
    return (HIT, fetch.value) if fetch.status is Status.HIT else (MISS, tensor.numpy()[0])


def client_serve(request):
    [outcome] = yield [calls.serve(
        admit=calls.admit({f"rate:{request.user}": calls.Limit(LIMIT, WINDOW)}),
        fetch=fetch_call(request), features=features_call(request))]
    if not outcome:
        return REFUSED
    fetch = outcome.fetch
    return (HIT, fetch.value) if fetch.status is Status.HIT else (MISS, outcome.features.numpy()[0])


HAND, SERVE = "by hand, a trip each", "ML.SERVE"
AT_ONCE = "ML commands in one pipeline"
CLIENT_SERVE = "mlserve.Client, client.serve"
WAYS = {
    HAND: Way(by_hand, with_module=False),
    "by hand, the limit a script": Way(by_hand_with_a_script, with_module=False),
    "by hand, in one pipeline": Way(by_hand_at_once, with_module=False),
    "ML commands, a trip each": Way(in_trips),
    AT_ONCE: Way(at_once),
    SERVE: Way(serve),
}
OF_CLIENT = {
    "mlserve.Client, a trip each": Way(client_in_trips),
    "mlserve.Client, one pipeline": Way(client_at_once),
    CLIENT_SERVE: Way(client_serve),
}
