"""mlserve for Python: servers with the module, to try it and for tests.

- `mlserve serve`, a command: see `mlserve serve --help`.
- `mlserve.testing.server()`: a server for a `with` block.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("redis-mlserve")
