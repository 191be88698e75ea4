"""The load: as many calls as the server takes, by redis-benchmark, and calls at
a fixed rate, whose latency is measured from the moment each was due."""

import random
import select
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from .cases import DEFAULTS, VALUE
from .figures import percentiles
from .server import packed


@dataclass(frozen=True)
class Load:
    """How much of what: `requests` calls, `pipeline` at a time on each of
    `connections`, keys drawn from `keys`."""

    requests: int
    keys: int
    connections: int = 16
    pipeline: int = 32
    value_bytes: int = 100


def prepare(server, case, load):
    """An empty server, or one whose keys are all written; the command and the
    memory that was in use before."""
    value = "x" * load.value_bytes
    command, filled = ([value if word == VALUE else word for word in words]
                       for words in (case.command(server), case.filled))
    server.call("FLUSHALL", "SYNC")
    server.call("CONFIG", "SET", *(case.config or DEFAULTS))
    empty = server.used_memory()
    if filled:
        server.fill(filled, load.keys)
    return command, empty


def found(server, command):
    """How many keys a command and its like have found so far, and how many not."""
    where = "ml_cache" if command[0].startswith("ML.CACHE") else "keyspace"
    info = server.info("everything")
    return int(info[f"{where}_hits"]), int(info[f"{where}_misses"])


def throughput(server, case, load):
    """As many calls as the server takes: thousands a second, the server's CPU
    microseconds each, and what a key takes of memory."""
    command, empty = prepare(server, case, load)
    requests = max(load.requests // case.many, 1)
    hits = found(server, command)
    spent = at_most_speed(server, command, load, requests, case.many)
    if case.filled:
        hits, misses = (now - then for now, then in zip(found(server, command), hits))
        assert misses <= (hits + misses) / 100, f"{case.name} does not find its keys"
    stored = server.call("DBSIZE")
    memory = (server.used_memory() - empty) / stored if stored else None
    return spent | {"bytes": memory}


def at_most_speed(server, command, load, requests, many=1):
    """So many calls of a command, as fast as the server takes them."""
    before = server.cpu_seconds()
    output = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-n", str(requests),
         "-r", str(load.keys), "-c", str(load.connections),
         "-P", str(max(load.pipeline // many, 1)), "--csv", *command],
        check=True, capture_output=True, text=True, timeout=900).stdout
    cpu = server.cpu_seconds() - before
    rate = float(output.strip().splitlines()[-1].rsplit('","', 7)[1])
    return {"rate": rate / 1000, "cpu_us": cpu / requests * 1e6}


def latency(server, case, load, rate, seconds):
    """Calls at a fixed rate, each sent when it is due whether or not the ones
    before are answered: milliseconds from then until its answer is there, as
    percentiles."""
    command, _ = prepare(server, case, load)
    rate = max(rate // case.many, 10)
    chance = random.Random(1)
    drawn = [packed([word.replace("__rand_int__", f"{chance.randrange(load.keys):012}")
                     for word in command]) for _ in range(max(int(rate * seconds), 20))]
    lines = Lines(server.port, load.connections)
    try:
        return percentiles(lines.run(drawn, 1 / rate))
    finally:
        lines.close()


def pings_beside(server, work, count):
    """How long so many PINGs take, one after the other, while another thread does some
    work, if any, again and again: milliseconds."""
    over = threading.Event()

    def go_on():
        while not over.is_set():
            work()

    thread = threading.Thread(target=go_on if work else over.wait)
    thread.start()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        server.call("PING")
        times.append((time.perf_counter() - start) * 1e3)
    over.set()
    thread.join()
    return times


class Lines:
    """Connections that take turns."""

    def __init__(self, port, connections):
        self.poll = select.epoll()
        self.all = [Line(port) for _ in range(connections)]
        self.by_file = {line.socket.fileno(): line for line in self.all}
        for file in self.by_file:
            self.poll.register(file, select.EPOLLIN)

    def close(self):
        self.poll.close()
        for line in self.all:
            line.socket.close()

    def run(self, calls, interval):
        """The milliseconds of each call, in the order they were due."""
        times = []
        start = time.perf_counter() + 0.01
        sent = 0
        while len(times) < len(calls):
            now = time.perf_counter()
            while sent < len(calls) and now >= start + sent * interval:
                self.all[sent % len(self.all)].send(calls[sent], start + sent * interval)
                sent += 1
            wait = start + sent * interval - time.perf_counter() if sent < len(calls) else 10
            # Short waits are spent looking: a sleep comes back too late for them.
            for file, _ in self.poll.poll(0 if wait < 0.002 else wait - 0.001):
                times += self.by_file[file].receive(time.perf_counter())
        return [took * 1e3 for _, took in sorted(times)]


class Line:
    """A connection, and when the calls on it were due that are not answered."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = []
        self.bytes = b""

    def send(self, call, due):
        self.due.append(due)
        self.socket.sendall(call)

    def receive(self, now):
        """When the calls were due that are answered now, and how long ago."""
        self.bytes += self.socket.recv(1 << 20)
        answered = []
        while self.due and (end := after_reply(self.bytes, 0)):
            self.bytes = self.bytes[end:]
            due = self.due.pop(0)
            answered.append((due, now - due))
        return answered


def after_reply(text, start):
    """Where the reply that begins at `start` ends; None while it is not all there."""
    line = text.find(b"\r\n", start)
    if line < 0:
        return None
    kind, end = text[start:start + 1], line + 2
    assert kind != b"-", text[start:line]
    if kind == b"$":
        length = int(text[start + 1:line])
        end += length + 2 if length >= 0 else 0
        return end if end <= len(text) else None
    if kind == b"*":
        for _ in range(max(int(text[start + 1:line]), 0)):
            end = after_reply(text, end)
            if end is None:
                return None
    return end
