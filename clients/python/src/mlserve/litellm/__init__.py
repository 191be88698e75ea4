"""LiteLLM on mlserve: the limits of its proxy, and its cache of answers.

In the proxy's configuration:

```yaml
litellm_settings:
  callbacks: ["mlserve.litellm.limiter", "mlserve.litellm.cache"]
callback_settings:
  mlserve: {url: "redis://127.0.0.1:6379"}
```

Each works by itself. What else may stand under `mlserve`: see `Settings`.

- `limiter` stands for LiteLLM's own `parallel_request_limiter`, by `MlserveLimiter`.
- `cache` is put in force as `litellm.cache`, by `MlserveCache`; without the proxy:
  `litellm.cache = litellm.Cache(_backend=MlserveCache("redis://127.0.0.1:6379"))`.
- `semantic_cache`, in place of `cache`: by `MlserveSemanticCache`, nearly the same question is
  answered, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlserve.litellm._cache import MlserveCache
from mlserve.litellm._semantic import MlserveSemanticCache
from mlserve.litellm._settings import Settings

if TYPE_CHECKING:
    from mlserve.litellm._limiter import MlserveLimiter

__all__ = ["MlserveCache", "MlserveLimiter", "MlserveSemanticCache", "Settings"]


def __getattr__(name: str) -> Any:
    # The proxy asks for `limiter` and the caches once its configuration is read, and keeps what it
    # gets as a callback: so they are put in force when they are asked for.
    if name not in ("MlserveLimiter", "limiter", "cache", "semantic_cache"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "cache":
        from mlserve.litellm._cache import put_in_force
    elif name == "semantic_cache":
        from mlserve.litellm._semantic import put_in_force
    else:
        # It wants the packages of the proxy, which a cache does without.
        from mlserve.litellm._limiter import MlserveLimiter, put_in_force

        if name == "MlserveLimiter":
            return MlserveLimiter
    put_in_force()
    from litellm.integrations.custom_logger import CustomLogger

    return CustomLogger()
