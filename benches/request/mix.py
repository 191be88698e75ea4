"""The requests of model serving: some are denied, most have their answer in the cache, for
the others features are read. And what there is before they come."""

import random
import struct
from dataclasses import dataclass

from ..peers import FIXED_WINDOW
from ..server import packed

DENIED, HIT, MISS = "denied", "a hit", "a miss"
MIX = {DENIED: 0.05, HIT: 0.70, MISS: 0.25}
KNOWN = MIX[HIT] / (MIX[HIT] + MIX[MISS])  # Also among the requests that are denied.

LIMIT, WINDOW, TTL = 1000, 3600, 3600
VERSION = "v1"
FIELDS = [f"feature_{number:02}" for number in range(20)]
LIST = "request"


@dataclass(frozen=True)
class Request:
    """Who asks, the digest of what is asked, an id of the request, how it is to end, and
    with what: the answer, or the features."""

    user: str
    digest: str
    trace: str
    ending: str
    result: object = None

    def outcome(self):
        return self.ending, self.result


class Mix:
    """So many requests by so many users, and as many answers that are known. What is not
    known is asked once: so it stays unknown without being dropped."""

    def __init__(self, count, users, value_bytes):
        chance = random.Random(1)
        self.answer = b"x" * value_bytes
        self.known = [digest(chance) for _ in range(users)]
        self.users = [f"{number:06}" for number in range(users)]
        self.blocked = [f"blocked:{number:06}" for number in range(max(users // 20, 1))]
        # Numbers that are the same as text and as singles.
        self.features = {user: [chance.randrange(1 << 10) / (1 << 10) for _ in FIELDS]
                         for user in self.users + self.blocked}
        endings = [ending for ending, share in MIX.items() for _ in range(round(count * share))]
        chance.shuffle(endings)
        self.requests = [self.drawn(chance, ending) for ending in endings]

    def drawn(self, chance, ending):
        user = chance.choice(self.blocked if ending == DENIED else self.users)
        known = ending == HIT or ending == DENIED and chance.random() < KNOWN
        result = {DENIED: None, HIT: self.answer, MISS: self.features[user]}[ending]
        return Request(user, chance.choice(self.known) if known else digest(chance),
                       f"{chance.getrandbits(128):032x}", ending, result)

    def used(self):
        """How much of each user's limit is used already."""
        return [*((user, 1) for user in self.users), *((user, LIMIT) for user in self.blocked)]

    def by_hand(self):
        """What by hand is written before: commands, packed."""
        for user, used in self.used():
            yield packed(("SET", f"rate:{user}", used, "EX", WINDOW))
        for user, values in self.features.items():
            pairs = (word for pair in zip(FIELDS, values) for word in pair)
            yield packed(("HSET", f"user:{user}", *pairs))
        for known in self.known:
            yield packed(("SET", f"pred:{VERSION}:{known}", self.answer, "EX", TTL))
        yield packed(("SCRIPT", "LOAD", FIXED_WINDOW))

    def with_module(self):
        """The same with the module's commands."""
        yield packed(("ML.FIELDLIST", LIST, *FIELDS))
        for user, used in self.used():
            yield packed(("ML.RATELIMIT", f"rate:{user}", LIMIT, WINDOW, "COST", used))
        for user, values in self.features.items():
            yield packed(("ML.FEATUREMSET", 1, f"user:{user}", struct.pack(f"<{len(values)}f", *values),
                          "TYPE", "F32", "FIELDS", f"@{LIST}"))
        for known in self.known:
            yield packed(("ML.CACHESET", f"pred:{known}", VERSION, self.answer, "EX", TTL))


def digest(chance):
    """As long as that of SHA-256."""
    return f"{chance.getrandbits(256):064x}"
