"""What goes wrong: the errors of the client.

- `Error`
    - `Unavailable`: no server answered.
        - `TimedOut`: not within the time-out.
    - `ResponseError`: the server answered with an error.
        - `ModuleMissing`: the module is not loaded there.

The error of redis-py or valkey-py, where there is one, is the `__cause__`. An argument
that cannot be sent is a ValueError or a TypeError, which names it.
"""

from __future__ import annotations

__all__ = ["Error", "ModuleMissing", "ResponseError", "TimedOut", "Unavailable"]

CODES = {
    "AskError": "ASK",
    "AuthenticationError": "NOAUTH",
    "AuthorizationError": "NOAUTH",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "ExecAbortError": "EXECABORT",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
"""The codes that the libraries take off the message, by the class that they make of it."""

LEFT_ON = frozenset(
    [
        "BUSY",
        "BUSYGROUP",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "DENIED",
        "EXECABORT",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOAUTH",
        "NOGROUP",
        "NOPERM",
        "NOPROTO",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
        "UNKILLABLE",
        "WRONGPASS",
        "WRONGTYPE",
    ]
)
"""The codes that may stand before a message. ERR is taken off, and what is left may begin with
a word in capitals, as "AT must be ..." does."""


class Error(Exception):
    """An error of mlserve."""


class Unavailable(Error):
    """No server answered: it is not reached, the connection was lost, or none is free.

    `sent` says whether the command may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        """The message, and whether the command was on its way."""
        super().__init__(message)
        self.sent = sent


class TimedOut(Unavailable):
    """No server answered within the time-out."""


class ResponseError(Error):
    """The server answered with an error.

    `code` is its first word: ERR, WRONGTYPE, OOM, NOPERM, READONLY, MISCONF, ...
    """

    def __init__(self, message: str, *, code: str = "ERR") -> None:
        """The message without the code, and the code."""
        super().__init__(message)
        self.code = code


class ModuleMissing(ResponseError):
    """The server has not loaded the module, or one that is older than this package."""


HOW_TO_LOAD = (
    "the server does not know {command}: load the module there, by the line 'loadmodule "
    "/path/to/mlserve.so' in its configuration and a restart, or by MODULE LOAD "
    "/path/to/mlserve.so where enable-module-command allows it; if it is loaded "
    "(MODULE LIST), it is older than this package"
)


def code_of(error: Exception) -> str:
    """The code of an error that a library made of an answer."""
    code = CODES.get(type(error).__name__)
    if code is None:
        first = str(error).split(" ", 1)[0]
        code = first if first in LEFT_ON else "ERR"
    # The libraries have one class for who says nothing and for who says something wrong.
    if code == "NOAUTH" and "invalid username-password" in str(error):
        code = "WRONGPASS"
    return code


def response_error(error: Exception, command: str) -> ResponseError:
    """The library's error for an answer of the server, as one of ours."""
    message, code = str(error), code_of(error)
    if message.startswith("unknown command") and command.startswith("ML."):
        return ModuleMissing(HOW_TO_LOAD.format(command=command))
    return ResponseError(message.removeprefix(f"{code} "), code=code)
