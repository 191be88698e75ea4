"""Clients that name no time-out have ten times the usual one: for tests, and what they start.

conftest.py runs this for itself, and has Python run it where a program that uses mlserve
begins: a module of this name, found in PYTHONPATH, is imported before all others.
"""

from mlserve._commands import Maker

# A machine that stalls is no server that is away. What waits for nobody, as a call to a port
# at which nobody listens, waits no longer for it.
for made_by in ("from_url", "sentinel", "cluster"):
    getattr(Maker, made_by).__func__.__kwdefaults__["timeout"] = 5.0
