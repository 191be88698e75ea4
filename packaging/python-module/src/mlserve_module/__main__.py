"""Prints the library's path."""

from mlserve_module import path

print(path())
