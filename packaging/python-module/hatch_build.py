"""Puts the library into the wheel, and its platform into the wheel's name."""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LibraryHook(BuildHookInterface[Any]):
    """Runs before the wheel is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Say what hatchling cannot know."""
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ['MLSERVE_PLATFORM']}"
        build_data["force_include"][os.environ["MLSERVE_LIBRARY"]] = "mlserve_module/mlserve.so"
