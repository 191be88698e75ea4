"""The family `queue`: how long after something was given back the next of those who wait
for it has it."""

import select
import socket
import time

from .figures import Figures, percentiles
from .server import packed

WAITING = 1000
BLOCKED, WAITS = f"BLPOP, {WAITING:,} blocked", f"ML.ADMIT, {WAITING:,} waiting"


class Permit:
    """One permit, for which the others wait; whoever has it gives it back."""

    joins = packed(("ML.ADMIT", 1, "slots", "PERMIT", 1, "HOLD", 600_000, "WAIT", 600_000))

    def __init__(self, server):
        self.id = server.call("ML.ADMIT", 1, "slots", "PERMIT", 1, "HOLD", 600_000)[1]

    def release(self):
        return packed(("ML.SETTLE", 1, "slots", self.id))

    def granted(self, answer):
        # *5, :1, $32, the id.
        lines = answer.split(b"\r\n")
        assert lines[1] == b":1", answer
        self.id = lines[3]


class Element:
    """One element of a list at a time, for which all wait."""

    joins = packed(("BLPOP", "list", 0))

    def __init__(self, _):
        pass

    def release(self):
        return packed(("RPUSH", "list", "x"))

    def granted(self, answer):
        assert answer.endswith(b"\r\nx\r\n"), answer


def once(server, kind, waiting, times):
    """The milliseconds of so many releases, from the moment one is sent until the next
    that waits can read that it has it. That one waits anew, behind the others."""
    server.call("FLUSHALL", "SYNC")
    thing = kind(server)
    address = ("127.0.0.1", server.port)
    crowd = [socket.create_connection(address) for _ in range(waiting)]
    by_file = {caller.fileno(): caller for caller in crowd}
    poll = select.epoll()
    for place, caller in enumerate(crowd):
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.sendall(kind.joins)
        poll.register(caller, select.EPOLLIN)
        await_blocked(server, place + 1)
    took = []
    with socket.create_connection(address) as holder:
        holder.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            command = thing.release()
            start = time.perf_counter()
            holder.sendall(command)
            ready = []
            while not ready:
                ready = poll.poll(0)
            took.append((time.perf_counter() - start) * 1e3)
            assert len(ready) == 1, "one has it"
            holder.recv(64)
            caller = by_file[ready[0][0]]
            thing.granted(caller.recv(512))
            caller.sendall(kind.joins)
            await_blocked(server, waiting)
    poll.close()
    for caller in crowd:
        caller.close()
    await_blocked(server, 0)
    return took


def await_blocked(server, count):
    while server.info("clients")["blocked_clients"] != str(count):
        time.sleep(0.0001)


def family(server, options):
    title = "from the moment something is given back until the next who waits has it"
    several = {kind: Figures("queue", title, name, BLOCKED)
               for name, kind in ((BLOCKED, Element), (WAITS, Permit))}
    for turn in range(options.rounds + 1):
        for kind, figures in several.items():
            times = once(server, kind, WAITING, options.releases)
            if turn:  # The first is a warm-up.
                figures.add(**percentiles(times))
    return list(several.values())
