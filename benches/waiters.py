"""The family `waiters`: how long after an answer was set the callers that wait
for it have it."""

import select
import socket
import statistics
import time

from .figures import Figures, percentiles
from .server import packed

CALLERS = (1, 10, 100, 1000)
TIMES = 5  # A round.


def once(server, callers):
    """From the moment that the answer is sent to the server: the milliseconds
    until each of the callers that wait for it can read it."""
    address = ("127.0.0.1", server.port)
    key = f"herd:{callers}:{time.monotonic_ns()}"
    token = server.call("ML.CACHEFETCH", key, "v", "LEASE", "60000")[2]
    crowd = [socket.create_connection(address) for _ in range(callers)]
    poll = select.epoll()
    for caller in crowd:
        caller.sendall(packed(("ML.CACHEFETCH", key, "v", "LEASE", "60000", "WAIT", "60000")))
        poll.register(caller, select.EPOLLIN | select.EPOLLET)
    while server.info("ml_cache")["ml_cache_waiters"] != str(callers):
        time.sleep(0.001)
    command = packed(("ML.CACHESET", key, "v", "x" * 100, "TOKEN", token))
    with socket.create_connection(address) as holder:
        start = time.perf_counter()
        holder.sendall(command)
        times = []
        while len(times) < callers:
            ready = poll.poll(10)
            now = time.perf_counter()
            times += [(now - start) * 1000] * len(ready)
    for caller in crowd:
        caller.close()
    return times


def family(server, options):
    title = "from the moment an answer is set until the callers that wait have it"
    all_figures = []
    for callers in CALLERS:
        once(server, callers)  # A warm-up, not counted.
        figures = Figures("waiters", title, f"{callers:,} callers")
        for _ in range(options.rounds):
            several = [percentiles(once(server, callers), callers) for _ in range(TIMES)]
            figures.add(**{unit: statistics.median(one[unit] for one in several)
                           for unit in several[0]})
        all_figures.append(figures)
    return all_figures
