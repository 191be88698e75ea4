"""Vectors that lie as embeddings of questions do, of any number of dimensions.

All have something in common, most are of some topic, few topics are most of what is asked,
and within a topic a question is anything from the same in other words to a far cousin. With
150 topics the numbers below make of 1,500 such vectors what 1,500 texts of fow-cache are,
embedded by all-MiniLM-L6-v2: a mean cosine of 0.09 with a standard deviation of 0.10, the
nearest other vector at 0.7 in the median (there 0.78) and at 0.93 for one in twenty (0.99),
and a variance that some 90 directions have most of.
"""

import numpy

RANK = 256
DECAY = 0.2
COMMON = 0.3
SPREAD = (0.2, 2.0)
# As long as this, what is added to a vector makes one with a cosine of 0.97 to it.
REWORDED = 0.25


def unit(vectors):
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


class Embeddings:
    """A source of vectors of length 1; the same ones each time."""

    def __init__(self, dims, topics=2_000):
        self.chance = numpy.random.default_rng(1)
        weights = numpy.arange(1, RANK + 1, dtype="f4") ** -DECAY
        self.axes = self.chance.standard_normal((RANK, dims), dtype="f4") * weights[:, None]
        self.common = COMMON * self.directions(1)
        self.topics = self.directions(topics)

    def directions(self, count):
        return unit(self.chance.standard_normal((count, RANK), dtype="f4") @ self.axes)

    def more(self, count):
        """So many further vectors."""
        # Squared, so that the first of the topics are drawn most often.
        topics = (len(self.topics) * self.chance.random(count) ** 2).astype(int)
        spread = self.chance.uniform(*SPREAD, (count, 1)).astype("f4")
        return unit(unit(self.topics[topics] + spread * self.directions(count)) + self.common)

    def reworded(self, vectors):
        """For each of these vectors one near it."""
        return unit(vectors + REWORDED * self.directions(len(vectors)))
