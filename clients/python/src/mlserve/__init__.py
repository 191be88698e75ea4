"""mlserve for Python: limits, a prediction cache and features in Redis and Valkey.

- `Client`, and `aio.Client` for asyncio: a method for each command of the module.
- `Limit` and `Permit`: what `admit` asks for. `Until`: a window that closes at a moment.
- `FeatureLog`: a log of the features that were served.
- `limit`, `permit` and `admit`: a block of work, or a function, let in by them.
- `cached`: a decorator that keeps what a function returns.
- `SemanticCache` and the decorator `semantic_cached`: the answer to nearly the same question.
- `Quota`: a limit that is leased in blocks, for callers who cannot afford a round trip.
- `mlserve serve`, a command: a private server with the module; see `mlserve serve --help`.
- `mlserve.testing.server()`: the same for a `with` block.
"""

from importlib.metadata import version

from mlserve import aio
from mlserve.admission import Busy, Denied, Limited, admit, limit, micros, permit
from mlserve.breaker import Breaker, CircuitOpen, breaker_of
from mlserve.caching import cached
from mlserve.calls import Limit, Permit, Until
from mlserve.client import Client, Pipeline
from mlserve.errors import Error, ModuleMissing, ResponseError, TimedOut, Unavailable
from mlserve.featurelog import FeatureLog
from mlserve.quota import Quota
from mlserve.results import (
    Admission,
    Fetch,
    FieldList,
    FieldStatus,
    Outcome,
    RateLimit,
    Status,
    Tensor,
)
from mlserve.semantic import SemanticCache, semantic_cached

__all__ = [
    "Admission",
    "Breaker",
    "Busy",
    "CircuitOpen",
    "Client",
    "Denied",
    "Error",
    "FeatureLog",
    "Fetch",
    "FieldList",
    "FieldStatus",
    "Limit",
    "Limited",
    "ModuleMissing",
    "Outcome",
    "Permit",
    "Pipeline",
    "Quota",
    "RateLimit",
    "ResponseError",
    "SemanticCache",
    "Status",
    "Tensor",
    "TimedOut",
    "Unavailable",
    "Until",
    "__version__",
    "admit",
    "aio",
    "breaker_of",
    "cached",
    "limit",
    "micros",
    "permit",
    "semantic_cached",
]

__version__ = version("redis-mlserve")
