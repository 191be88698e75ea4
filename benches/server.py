"""A private server with the module, and a plain connection to it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "target/release/libmlserve.so"
CORES = sorted(os.sched_getaffinity(0))


def packed(words):
    """A command as it goes over the wire."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Server:
    """A server and a connection to it."""

    def __init__(self, port, process):
        self.port = port
        self.process = process
        self.stream = None

    def connect(self, deadline=60):
        end = time.monotonic() + deadline
        while True:
            try:
                self.stream = socket.create_connection(("127.0.0.1", self.port), 120).makefile("rwb")
                if self.call("PING") == b"PONG":
                    return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def call(self, *words):
        """Calls a command; its answer is bytes, a number, None, or a list of these."""
        return self.call_together([words])[0]

    def call_together(self, calls):
        """Calls commands in one round trip; their answers, in order."""
        self.stream.write(b"".join(map(packed, calls)))
        self.stream.flush()
        return [self.answer(words) for words in calls]

    def answer(self, words):
        head = self.stream.readline().rstrip()
        kind, rest = head[:1], head[1:]
        if kind == b"-":
            sys.exit(f"{words[0]}: {rest.decode()}")
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.answer(words) for _ in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else self.stream.read(int(rest) + 2)[:-2]
        return rest

    def fill(self, command, keys):
        """Calls a command on each of the keys that the load draws from, in an empty
        server."""
        template = packed(command)  # The number is as long as what it stands for.
        self.call_silently(template.replace(b"__rand_int__", b"%012d" % key)
                           for key in range(keys))
        assert self.call("DBSIZE") == keys, f"{command[0]} does not write every key"

    def call_silently(self, calls):
        """Packed calls, without answers: reading them takes longer than the calls."""
        self.stream.write(packed(("CLIENT", "REPLY", "OFF")))
        self.stream.writelines(calls)
        self.call("CLIENT", "REPLY", "ON")

    def info(self, section):
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def name(self):
        """The server's name and version."""
        info = self.info("server")
        name = info.get("server_name", "redis")
        return f"{name.capitalize()} {info.get(f'{name}_version', info['redis_version'])}"

    def cpu_seconds(self):
        info = self.info("cpu")
        return sum(float(info[f"used_cpu_{kind}_main_thread"]) for kind in ("user", "sys"))

    def used_memory(self):
        """Without that of the connections, which come and go."""
        info = self.info("memory")
        return int(info["used_memory"]) - int(info["mem_clients_normal"])


def apart(process):
    """Gives the server a core that the load, this process and what it starts, keeps
    off: sharing one, they wait for each other's time slices, of milliseconds."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, CORES[:-1])
        os.sched_setaffinity(process.pid, CORES[-1:])


def threads_anywhere(process):
    """Gives the threads that the server has started all cores: they begin on that of its main
    thread, and would take turns with it."""
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        if int(thread.name) != process.pid:
            with suppress(ProcessLookupError):  # It is over.
                os.sched_setaffinity(int(thread.name), CORES)


@contextmanager
def started(binary, modules=(MODULE,), under=()):
    """A server with these modules, `under` another program if one is given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loads = [word for module in modules for word in ("--loadmodule", str(module))]
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [*under, binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "",
             "--maxclients", "2000", "--dir", directory, *loads],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory)
        try:
            server = Server(port, process)
            server.connect()
            apart(process)
            yield server
        finally:
            process.kill()
            process.wait()
