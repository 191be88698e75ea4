"""The connections of a client for threads to one server."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from mlserve._links import exhausted, failure, packed
from mlserve.errors import Error, code_of, response_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlserve._links import Address, Links
    from mlserve._where import Attempts
    from mlserve.calls import Call


class Pool:
    """The connections to one server.

    Of `limit` connections, calls that wait in the server may have three quarters: those
    that would have them answered always get through.
    """

    def __init__(self, links: Links, address: Address, limit: int) -> None:
        """To this address, so many at most."""
        self._links = links
        self._address = address
        self._limit = limit
        self._waiting_limit = max(1, limit * 3 // 4)
        self._idle: deque[Any] = deque()
        self._open = 0
        self._waiting = 0
        self._wanted = 0
        self._changed = threading.Condition()
        self._closed = False

    def ask(self, call: Call[Any], deadline: float, *, asking: bool = False) -> Any:
        """The answer to a call; raises Unavailable, or the library's ResponseError."""
        connection = self._take(call, deadline)
        sent = False
        try:
            connection.arm(deadline + call.wait)
            chunks = packed(connection, call, asking)
            sent = True
            connection.send_packed_command(chunks, check_health=False)
            if asking:
                connection.read_response()
            answer = connection.read_response()
        except self._links.response_errors as error:
            self._refused(connection, call, error)
            raise
        except self._links.lost_errors as error:
            self._lose(connection, call)
            raise failure(self._links, self._address, error, sent=sent) from error
        except BaseException:
            self._lose(connection, call)
            raise
        self._give(connection, call)
        return answer

    def begin(self, attempts: Sequence[Attempts], deadline: float) -> Batch:
        """Send several calls on one connection."""
        batch = Batch(self, attempts, deadline)
        call = attempts[0].call
        try:
            batch.connection = self._take(call, deadline)
            batch.connection.arm(deadline)
            chunks = [
                chunk
                for attempt in attempts
                for chunk in packed(batch.connection, attempt.call, attempt.asking)
            ]
            batch.sent = True
            batch.connection.send_packed_command([b"".join(chunks)], check_health=False)
        except self._links.lost_errors as error:
            batch.lost(error)
        except Error as error:
            batch.error = error
        except BaseException:
            batch.abandon()
            raise
        return batch

    def _take(self, call: Call[Any], deadline: float) -> Any:
        """A connection that is free, or a new one."""
        if not call.wait:
            connection = self._take_idle()
            if connection is not None:
                return connection
        with self._changed:
            self._wanted += 1
            try:
                connection = self._wait_for_one(call, deadline)
            finally:
                self._wanted -= 1
            self._waiting += call.wait > 0
            self._open += connection is None
        return connection or self._connected(call, deadline)

    def _take_idle(self) -> Any:
        """A connection that is free, or None."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle():
                return connection
            # Nothing was asked: the server has closed it.
            self._end(connection)

    def _wait_for_one(self, call: Call[Any], deadline: float) -> Any:
        """A connection that is free, or None where one may be opened."""
        while True:
            if not call.wait or self._waiting < self._waiting_limit:
                connection = self._take_idle()
                if connection is not None or self._open < self._limit:
                    return connection
            left = deadline - monotonic()
            if left <= 0:
                raise exhausted(self._limit, self._waiting)
            self._changed.wait(left)

    def _connected(self, call: Call[Any], deadline: float) -> Any:
        """A new connection."""
        connection = None
        try:
            connection = self._links.new(self._address)
            connection.open(deadline)
        except self._links.response_errors as error:
            self._lose(connection, call)
            raise response_error(error, "HELLO") from error
        except self._links.lost_errors as error:
            self._lose(connection, call)
            raise failure(self._links, self._address, error, sent=False) from error
        except BaseException:
            self._lose(connection, call)
            raise
        return connection

    def _give(self, connection: Any, call: Call[Any]) -> None:
        """Have a connection free again."""
        self._idle.append(connection)
        if call.wait or self._wanted:
            with self._changed:
                self._waiting -= call.wait > 0
                self._changed.notify_all()
        if self._closed:
            self.close()

    def _refused(self, connection: Any, call: Call[Any], error: Exception) -> None:
        """Have a connection free again that brought an error, if it is of use."""
        if code_of(error) == "READONLY":
            # No primary any more: its name may lead to another by now.
            self._lose(connection, call)
            self._end_idle()
        else:
            self._give(connection, call)

    def _lose(self, connection: Any, call: Call[Any]) -> None:
        """Close a connection that may have an answer under way."""
        with self._changed:
            self._waiting -= call.wait > 0
        self._end(connection)

    def _end(self, connection: Any) -> None:
        if connection is not None:
            connection.disconnect()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def _end_idle(self) -> None:
        while self._idle:
            try:
                self._end(self._idle.pop())
            except IndexError:  # Another thread was faster.
                return

    def close(self) -> None:
        """Close what is free, and what is in use when it is given back."""
        self._closed = True
        self._end_idle()


class Batch:
    """Several calls that were sent on one connection: see Pool.begin."""

    def __init__(self, pool: Pool, attempts: Sequence[Attempts], deadline: float) -> None:
        """Before anything is sent."""
        self._pool = pool
        self._attempts = attempts
        self._call = attempts[0].call
        self._until = deadline
        self.connection: Any = None
        self.error: Error | None = None
        self.sent = False

    def end(self) -> list[Any]:
        """The answers or errors, in order."""
        try:
            outcomes = [self.error or self._answer(attempt) for attempt in self._attempts]
        except BaseException:
            self.abandon()
            raise
        if self.connection is not None:
            connection, self.connection = self.connection, None
            self._pool._give(connection, self._call)
        return outcomes

    def _answer(self, attempt: Attempts) -> Any:
        links = self._pool._links
        try:
            self.connection.arm(self._until + attempt.call.wait)
            if attempt.asking:
                self.connection.read_response()
            return self.connection.read_response()
        except links.response_errors as error:
            return error
        except links.lost_errors as error:
            return self.lost(error)

    def lost(self, error: Exception) -> Error:
        """Note that the connection is gone, and with it all that was not answered."""
        self.error = failure(self._pool._links, self._pool._address, error, sent=self.sent)
        self.error.__cause__ = error
        self.abandon()
        return self.error

    def abandon(self) -> None:
        """Close the connection: what it brings is not waited for."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            self._pool._lose(connection, self._call)
