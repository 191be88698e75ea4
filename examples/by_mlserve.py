"""After: the three uses by mlserve. Before: by_hand.py."""

import mlserve

from reviews import p_good

FEATURES = ["avg_order", "n_sessions"]


class Service:
    """What a server of one version of a model asks of mlserve."""

    def __init__(self, url, model, version):
        self.client = mlserve.Client.from_url(url)
        self.asked = self.client.features(FEATURES)

        @mlserve.cached(self.client, "pred", version=version, ttl=3600)
        def score(text):
            return p_good(model, text)

        self.score = score

    def wait(self, user, limit=100, window=60):
        """Seconds until the user may make this request; 0: it is let in."""
        return self.client.ratelimit(f"rate:{user}", limit, window).retry_after

    def features(self, user):
        """The user's features, NaN for a missing one."""
        return self.asked([user]).numpy()[0].tolist()
