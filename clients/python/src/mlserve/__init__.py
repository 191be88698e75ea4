"""mlserve for Python: limits, a prediction cache and features in Redis and Valkey.

- `Client`, and `aio.Client` for asyncio: a method for each command of the module.
- `Limit` and `Permit`: what `admit` asks for. `Until`: a window that closes at a moment.
- `FeatureLog`: a log of the features that were served.
- `mlserve serve`, a command: a private server with the module; see `mlserve serve --help`.
- `mlserve.testing.server()`: the same for a `with` block.
"""

from importlib.metadata import version

from mlserve import aio
from mlserve.calls import Limit, Permit, Until
from mlserve.client import Client, Pipeline
from mlserve.errors import Error, ModuleMissing, ResponseError, TimedOut, Unavailable
from mlserve.featurelog import FeatureLog
from mlserve.results import Admission, Fetch, RateLimit, Status, Tensor

__all__ = [
    "Admission",
    "Client",
    "Error",
    "FeatureLog",
    "Fetch",
    "Limit",
    "ModuleMissing",
    "Permit",
    "Pipeline",
    "RateLimit",
    "ResponseError",
    "Status",
    "Tensor",
    "TimedOut",
    "Unavailable",
    "Until",
    "__version__",
    "aio",
]

__version__ = version("redis-mlserve")
