"""Before: the three uses by hand, of plain Redis commands. After: by_mlserve.py."""

import hashlib
import json
import math

import redis

from reviews import p_good

FEATURES = ["avg_order", "n_sessions"]

# Two commands by themselves would leave a counter without an expiry, and so a user locked
# out for good, where the client dies in between.
COUNT = """
local count = redis.call("INCR", KEYS[1])
if count == 1 then redis.call("PEXPIRE", KEYS[1], ARGV[1]) end
return {count, redis.call("PTTL", KEYS[1])}
"""


class Service:
    """What a server of one version of a model asks of Redis."""

    def __init__(self, url, model, version):
        self.redis = redis.Redis.from_url(url)
        self.model = model
        self.version = version
        self.count = self.redis.register_script(COUNT)

    def wait(self, user, limit=100, window=60):
        """Seconds until the user may make this request; 0: it is let in."""
        count, left_ms = self.count([f"rate:{user}"], [window * 1000])
        return 0 if count <= limit else left_ms / 1000

    def features(self, user):
        """The user's features, NaN for a missing one."""
        values = self.redis.hmget(user, FEATURES)
        return [math.nan if value is None else float(value) for value in values]

    def score(self, text):
        """The probability that a review is a good one."""
        key = f"pred:{self.version}:{hashlib.sha256(text.encode()).hexdigest()}"
        hit = self.redis.get(key)
        if hit is not None:
            return json.loads(hit)
        score = p_good(self.model, text)
        self.redis.set(key, json.dumps(score), ex=3600)
        return score
