"""Where a call goes: to one server, to the primary that Sentinel names, to nodes of a cluster.

What is to be asked to learn it is a program: a generator of questions, which the clients
put to the servers, each in its way. What is to be done after an error is here as well.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mlserve.errors import Error, ResponseError, TimedOut, Unavailable, code_of, response_error

if TYPE_CHECKING:
    from mlserve._links import Address, Links
    from mlserve.calls import Call
    from mlserve.results import FieldList, Key

SLOTS = 16_384
REDIRECTIONS = 5
"""How often a call is sent on, as keys move, before it is given up."""


class Question(NamedTuple):
    """A command for one server."""

    links: Links
    address: Address
    words: Sequence[str]


Questions = Generator[Question, Any, None]


class Lists:
    """The lists of fields that are known to be here what they are at the server."""

    def __init__(self) -> None:
        """None so far."""
        self._lists: dict[Key, list[Key]] = {}

    def agrees(self, call: Call[Any]) -> bool:
        """Whether a call may be sent, for all that it has to do with lists of fields."""
        fields = call.fields
        if fields is None:
            return not call.everywhere
        return self._lists.get(fields.name) == fields

    def compared(self, fields: FieldList, told: dict[bytes, list[bytes]]) -> None:
        """Raise ValueError where the server has other fields by that name, or another order."""
        there = told.get(encoded(fields.name))
        if there is None:
            # The server refuses the call that names it.
            return
        if there != [encoded(field) for field in fields]:
            raise ValueError(
                f"the FieldList {fields.name!r} has {list(fields)} here, and {there} at the "
                "server: give a changed list another name"
            )
        self._lists[fields.name] = list(fields)

    def forget_lists(self) -> None:
        """A list may be another from now on."""
        self._lists.clear()


def encoded(name: Key) -> bytes:
    """A name as it is sent."""
    return name.encode() if isinstance(name, str) else name


class Server(Lists):
    """One server."""

    many = False
    stale = False

    def __init__(self, address: Address) -> None:
        """At this address."""
        super().__init__()
        self._address = address

    def of(self, call: Call[Any]) -> Address:  # noqa: ARG002
        """Where to send a call."""
        return self._address

    def lost(self, address: Address) -> None:
        """A server did not answer, or was not what it should be."""

    def learn(self) -> Questions:
        """Ask what there is to be known."""
        return
        yield

    def all(self) -> list[Address]:
        """All that serve."""
        return [self._address]


class Primary(Server):
    """The primary of a name that sentinels watch."""

    def __init__(self, links: Links, sentinels: Sequence[Address], name: str) -> None:
        """As these sentinels know it, asked over these links."""
        # It is not known so far.
        super().__init__("")
        self._links = links
        self._sentinels = list(sentinels)
        self._name = name
        self.stale = True

    def lost(self, address: Address) -> None:
        """It may be another by now."""
        if address == self._address:
            self.stale = True

    def learn(self) -> Questions:
        """Ask one sentinel after the other."""
        reason: Exception | None = None
        for sentinel in list(self._sentinels):
            words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            try:
                answer = yield Question(self._links, sentinel, words)
            except (Unavailable, ResponseError) as error:
                answer, reason = None, error
            if answer is not None:
                self._address = (answer[0].decode(), int(answer[1]))
                self.stale = False
                return
            # It is asked last the next time.
            self._sentinels.remove(sentinel)
            self._sentinels.append(sentinel)
        why = reason or "it is none that they watch"
        raise Unavailable(f"no sentinel knows the primary of {self._name}: {why}") from reason


class Cluster(Server):
    """The primaries of a cluster, by slots."""

    many = True

    def __init__(self, links: Links, addresses: Sequence[Address]) -> None:
        """As these nodes know them, asked over these links."""
        super().__init__("")
        self._links = links
        self._known = list(addresses)
        self._slots: list[Address | None] = [None] * SLOTS
        self.stale = True

    def of(self, call: Call[Any]) -> Address:
        """The node of the call's first key; without any, one of them."""
        address = self._slots[key_slot(call.keys[0])] if call.keys else None
        return address or self.all()[0]

    def lost(self, address: Address) -> None:  # noqa: ARG002
        """Another may have taken its slots."""
        self.stale = True

    def moved(self, slot: int, address: Address) -> None:
        """A node says where a slot is."""
        self._slots[slot] = address
        self.stale = True

    def learn(self) -> Questions:
        """Ask one node after the other."""
        reason: Exception | None = None
        for address in list(self._known):
            try:
                answer = yield Question(self._links, address, ("CLUSTER", "SLOTS"))
            except (Unavailable, ResponseError) as error:
                reason = error
                self._known.remove(address)
                self._known.append(address)
                continue
            if answer:
                self._take(answer, address)
                return
        raise Unavailable(f"no node of the cluster answers: {reason}") from reason

    def _take(self, answer: list[Any], asked: Address) -> None:
        slots: list[Address | None] = [None] * SLOTS
        known = []
        for first, last, *nodes in answer:
            places: list[Address] = []
            for host, port, *_ in nodes:
                # A node that does not know its own name leaves it out.
                places.append((host.decode() if host else asked[0], port))
            slots[first : last + 1] = [places[0]] * (last - first + 1)
            known += places
        self._slots = slots
        self._known = list(dict.fromkeys([*known, *self._known]))
        self.stale = False

    def all(self) -> list[Address]:
        """The primaries."""
        found = [address for address in dict.fromkeys(self._slots) if address is not None]
        return found or self._known


def key_slot(key: Key) -> int:
    """The slot of a key: that of its hash tag, if it has one."""
    name = key.encode() if isinstance(key, str) else key
    start = name.find(b"{")
    if start >= 0:
        end = name.find(b"}", start + 1)
        if end > start + 1:
            name = name[start + 1 : end]
    return crc_hqx(name, 0) % SLOTS


def by_slot(keys: Sequence[Key]) -> list[list[int]]:
    """The places of the keys, those of one slot together."""
    groups: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key_slot(key), []).append(place)
    return list(groups.values())


class Attempts:
    """The attempts at one call: where the next goes, and whether there is to be one."""

    __slots__ = ("_redirections", "_repeated", "_sent", "_where", "address", "asking", "call")

    def __init__(self, where: Server, call: Call[Any], address: Address | None = None) -> None:
        """At this call, whose first attempt goes where it belongs."""
        self._where = where
        self.call = call
        self.address = address
        self.asking = False
        self._repeated = False
        self._sent = False
        self._redirections = 0

    def next(self) -> Address:
        """Where the next attempt goes."""
        return self.address or self._where.of(self.call)

    def failed(self, error: Exception) -> None:
        """Return where the call is to be sent once more; else raise what it failed by."""
        at = self.next()
        if isinstance(error, Unavailable):
            self._where.lost(at)
            given_up = isinstance(error, TimedOut) or (error.sent and not self.call.again)
            # What one attempt may have done stays so, whatever became of the next.
            error.sent = self._sent = error.sent or self._sent
            if given_up or self._repeated:
                raise error
            self._repeated = True
            return
        code = code_of(error)
        if code in ("MOVED", "ASK") and self._redirections < REDIRECTIONS:
            self._redirections += 1
            self._redirected(code, error, at)
            return
        # These refuse before anything is done. Who waited may have been let in by another.
        refused = code in ("READONLY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")
        if refused or code == "UNBLOCKED":
            self._where.lost(at)
            if not self._repeated and (refused or self.call.again):
                self._repeated = True
                return
        raise response_error(error, self.call.name) from error

    def _redirected(self, code: str, error: Any, at: Address) -> None:
        place: Address = (error.host or at[0], int(error.port))
        self.asking = code == "ASK"
        if self.asking:
            self.address = place
        else:
            self.address = None
            if isinstance(self._where, Cluster):
                self._where.moved(int(error.slot_id), place)


def by_address(attempts: Sequence[Attempts]) -> dict[Address, list[int]]:
    """The places of the attempts that go to each server."""
    groups: dict[Address, list[int]] = {}
    for place, attempt in enumerate(attempts):
        groups.setdefault(attempt.next(), []).append(place)
    return groups


def not_given_up(
    attempts: Sequence[Attempts], outcomes: list[Any], places: Iterable[int]
) -> list[int]:
    """Where there is to be another attempt; elsewhere the outcome is the final one."""
    left = []
    for place in places:
        outcome = outcomes[place]
        if isinstance(outcome, Exception):
            try:
                attempts[place].failed(outcome)
            except Error as error:
                outcomes[place] = error
            else:
                left.append(place)
    return left
