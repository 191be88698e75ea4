"""Functions by their names, as commands and configurations have them."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["function_of"]


def function_of(name: str) -> Callable[..., Any]:
    """A function by its name, "module:function", of the current folder too.

    What is no such name, or names none, is a ValueError.
    """
    module, _, attributes = name.partition(":")
    if not module or not attributes:
        raise ValueError(f"{name!r} must be module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = functools.reduce(getattr, attributes.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error
    if not callable(found):
        raise ValueError(f"{name} must be a function: {found!r}")
    function: Callable[..., Any] = found
    return function
