"""The library of mlserve, a module for Redis and Valkey."""

from pathlib import Path

__all__ = ["path"]


def path() -> Path:
    """The library's path, for `loadmodule`."""
    return Path(__file__).resolve().with_name("mlserve.so")
