"""A server with the module, for notebooks and tests.

```python
import mlserve.testing, redis

with mlserve.testing.server() as url:
    client = redis.Redis.from_url(url)
```

As a fixture of pytest, one server for all tests:

```python
@pytest.fixture(scope="session")
def mlserve_url():
    with mlserve.testing.server() as url:
        yield url
```
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlserve.server import Server

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

__all__ = ["server"]


@contextmanager
def server(
    *,
    port: int | None = None,
    save: str | os.PathLike[str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run a private server for the block, and yield its address.

    On a port that is free, if none is given. It keeps nothing, unless `save` names a
    directory. `settings` are the server's or the module's own.
    """
    with Server(port=port, save=save, settings=settings) as running:
        yield running.url
