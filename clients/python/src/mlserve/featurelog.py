"""A log of the features that were served: into a stream, and from it into Parquet files.

```python
log = mlserve.FeatureLog(client, stream="log:features", sample=0.01)
features = client.features(["price", "stock"])
tensor = features(["item:1", "item:2"])
log.served(tensor, version="v7")
```

`mlserve log-features` writes what is in the stream into files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import random
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from mlserve.calls import Call, as_it_is, pairs_of
from mlserve.client import Client
from mlserve.errors import Error, ResponseError, Unavailable
from mlserve.results import Tensor, arrow_of, widths_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow
    from typing_extensions import Self

    from mlserve._methods import Reply

__all__ = ["FeatureLog", "Filer", "Served", "run"]

logger = logging.getLogger("mlserve.featurelog")

BATCH = 100
"""How many entries are sent in one go."""

WARNING_SECONDS = 60.0
"""How often it is said, at most, that the log is not written."""


class Served(NamedTuple):
    """What was served with one call."""

    at: float
    """Seconds since 1970."""
    version: str
    """Of the model."""
    tensor: Tensor

    def words(self) -> list[bytes]:
        """The fields of its entry in the stream."""
        found = {
            b"at": str(round(self.at * 1000)).encode(),
            b"version": self.version.encode(),
            b"type": self.tensor.dtype.encode(),
            b"keys": packed(self.tensor.keys),
            b"fields": packed(self.tensor.fields),
            b"data": self.tensor.data,
            b"status": self.tensor.status,
        }
        if self.tensor.times is not None:
            found[b"times"] = self.tensor.times
        return [word for pair in found.items() for word in pair]

    @classmethod
    def of(cls, entry: Mapping[bytes, bytes]) -> Self:
        """From the fields of an entry; ValueError where it is none of this log."""
        try:
            keys, fields = unpacked(entry[b"keys"]), unpacked(entry[b"fields"])
            dtype, times = entry[b"type"].decode(), entry.get(b"times")
            data, status = entry[b"data"], entry[b"status"]
            at, version = int(entry[b"at"]) / 1000, entry[b"version"].decode()
        except (KeyError, struct.error) as error:
            raise ValueError(f"no {error} that can be read") from None
        count, widths = len(keys) * len(fields), widths_of(fields)
        numbers = len(keys) * sum(widths)
        size = {"<f4": 4, "<f8": 8, "<i8": 8}.get(dtype, 0)
        wrong_times = times is not None and len(times) != 8 * count
        if not size or len(data) != size * numbers or len(status) != count or wrong_times:
            raise ValueError("the buffers are not of the shape of its keys and fields")
        return cls(at, version, Tensor(keys, fields, dtype, data, status, times, widths))


def packed(names: Sequence[str | bytes]) -> bytes:
    """Names one after the other, each after its length in 4 bytes, little-endian."""
    each = [name.encode() if isinstance(name, str) else name for name in names]
    return b"".join(struct.pack("<I", len(name)) + name for name in each)


def unpacked(buffer: bytes) -> list[bytes]:
    """The names of `packed`."""
    names, place = [], 0
    while place < len(buffer):
        (length,) = struct.unpack_from("<I", buffer, place)
        place += 4 + length
        if place > len(buffer):
            raise struct.error("names")
        names.append(buffer[place - length : place])
    return names


class FeatureLog:
    """A log of what was served, written by a thread of its own.

    `served` never waits and never fails: what cannot be written, as the queue is full or
    the server is not reached, is left out and counted in `dropped`. An entry that was on
    its way when a connection was lost counts as dropped, and may be in the log even so.

    With asyncio as well it takes a `mlserve.Client`, not an `aio.Client`.
    """

    def __init__(
        self,
        client: Client,
        *,
        stream: str | bytes = "log:features",
        sample: float = 1.0,
        max_queued: int = 1000,
        max_entries: int = 1_000_000,
    ) -> None:
        """Log a share `sample` (0 to 1) of the calls, at random.

        At most `max_queued` calls wait for the thread, and the stream keeps about the
        latest `max_entries`, filed or not (XADD MAXLEN ~).
        """
        if not isinstance(client, Client):
            raise TypeError("client must be a mlserve.Client")
        if not 0 <= sample <= 1:
            raise ValueError(f"sample must be from 0 to 1: {sample!r}")
        for name, value in {"max_queued": max_queued, "max_entries": max_entries}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1: {value!r}")
        self._client, self._stream, self._sample = client, stream, sample
        self._max_queued, self._max_entries = max_queued, max_entries
        self._random = random.Random()  # noqa: S311
        self._warned = -WARNING_SECONDS
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._queue: queue.Queue[Served | None] = queue.Queue(self._max_queued)
        self._thread: threading.Thread | None = None
        self._closed = False
        self.written = 0
        """Calls that are in the stream."""
        self.dropped = 0
        """Calls that were to be logged and are not."""

    def served(self, tensor: Tensor, *, version: str, at: float | None = None) -> bool:
        """Log a tensor as it was served to the model of this version.

        `at` is when, in seconds since 1970, default now. True where it is queued, False
        where it is not in the sample, or dropped.
        """
        if self._sample < 1 and self._random.random() >= self._sample:
            return False
        # A copy of the names: the caller may use its list again.
        kept = Tensor(
            tuple(tensor.keys),
            tuple(tensor.fields),
            tensor.dtype,
            tensor.data,
            tensor.status,
            tensor.times,
            tensor.widths,
        )
        if self._owner != os.getpid():
            # A process that was forked off has neither the thread nor what it was to write.
            self._lock = threading.Lock()
            self._begin()
            self._random.seed()
        try:
            if self._closed:
                raise queue.Full
            self._queue.put_nowait(Served(time.time() if at is None else at, version, kept))
        except queue.Full:
            self._drop(1)
            return False
        if self._thread is None:
            self._start()
        return True

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._write, name="mlserve-log", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # No thread is to be had now, by the next call perhaps.
                    return
                self._thread = thread

    def _drop(self, count: int) -> None:
        with self._lock:
            self.dropped += count

    def _write(self) -> None:
        """Write what is queued, until the log is closed."""
        more = True
        while more:
            batch = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH:
                    batch.append(self._queue.get_nowait())
            more = None not in batch
            entries = [entry for entry in batch if entry is not None]
            if entries:
                self._send(entries)

    def _send(self, entries: Sequence[Served]) -> None:
        pipeline = self._client.pipeline()
        failed: Exception | None = None
        written = 0
        try:
            replies: list[Reply[Any]] = []
            for entry in entries:
                words = ["XADD", self._stream, "MAXLEN", "~", self._max_entries, "*"]
                call = Call([*words, *entry.words()], as_it_is, (self._stream,))
                replies.append(pipeline.run(call))
            for outcome in pipeline.execute(raise_on_error=False):
                if isinstance(outcome, Exception):
                    failed = outcome
                else:
                    written += 1
        except Exception as error:  # whatever it is, the thread goes on
            failed = error
        with self._lock:
            self.written += written
            self.dropped += len(entries) - written
        now = time.monotonic()
        if failed is not None and now - self._warned >= WARNING_SECONDS:
            self._warned = now
            logger.warning("features served are not logged, %d so far: %s", self.dropped, failed)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued, for so many seconds at most; the client stays open."""
        if self._closed or self._owner != os.getpid():
            return
        self._closed = True
        if self._thread is None:
            return
        deadline = time.monotonic() + timeout
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
        self._thread.join(max(deadline - time.monotonic(), 0))
        with contextlib.suppress(queue.Empty):
            while self._thread.is_alive():
                if self._queue.get_nowait() is not None:
                    self._drop(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- from the stream into files -----------------------------------------------


class Filer:
    """Files the entries of a stream as Parquet, as one consumer of a group.

    At least once: a batch is acknowledged once its files are on disk. The entries that were
    read and not acknowledged, by whatever went wrong, are the first batch of the next run,
    the same one; its files have the same names, and are not written again.
    """

    def __init__(
        self, client: Client, stream: str, directory: str | Path, *, group: str, consumer: str
    ) -> None:
        """Make the group, from the beginning of the stream, and the directory."""
        self._client, self._stream = client, stream
        self._group, self._consumer = group, consumer
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._batch: dict[bytes, dict[bytes, bytes] | None] = {}
        self._left_over = True
        try:
            self._ask("XGROUP", "CREATE", stream, group, "0", "MKSTREAM")
        except ResponseError as error:
            if error.code != "BUSYGROUP":
                raise

    def __len__(self) -> int:
        """How many entries are read and not filed."""
        return len(self._batch)

    @property
    def left_over(self) -> bool:
        """Whether the entries of an earlier run may be left, which are a batch of their own."""
        return self._left_over

    def _ask(self, *words: str | int | bytes, wait: float = 0) -> Any:
        return self._client.run(Call(words, as_it_is, (self._stream,), wait=wait))

    def read(self, count: int, wait: float = 0) -> int:
        """Read up to so many further entries; how many came within so many seconds."""
        begin = max(self._batch, key=ordered, default=b"0") if self._left_over else b">"
        words: list[str | int | bytes] = ["XREADGROUP", "GROUP", self._group, self._consumer]
        words += ["COUNT", count]
        if wait and not self._left_over:
            words += ["BLOCK", round(wait * 1000)]
        try:
            answer = self._ask(*words, "STREAMS", self._stream, begin, wait=wait)
        except Unavailable:
            # The group may have handed out what never came here.
            self._batch.clear()
            self._left_over = True
            raise
        found = entries_of(answer)
        self._batch.update(found)
        if self._left_over and not found and not self._batch:
            self._left_over = False
        return len(found)

    def file(self) -> list[Path]:
        """Write what was read into files, and acknowledge it; the new files."""
        if not self._batch:
            return []
        ids = sorted(self._batch, key=ordered)
        served: dict[str, list[tuple[bytes, Served]]] = {}
        for entry_id in ids:
            entry = self._batch[entry_id]
            if entry is None:
                # It was trimmed off the stream before it was filed.
                continue
            try:
                found = Served.of(entry)
            except ValueError as error:
                print(f"entry {entry_id.decode()} is left out: {error}", file=sys.stderr)
                continue
            served.setdefault(signature(found.tensor), []).append((entry_id, found))
        name = f"{quote(self._stream, safe='')}.{ids[0].decode()}.{ids[-1].decode()}"
        files = []
        for shape, rows in served.items():
            path = self._directory / f"{name}.{shape}.parquet"
            if not path.exists():
                write(path, table_of(rows))
                files.append(path)
        try:
            self._ask("XACK", self._stream, self._group, *ids)
        except Unavailable:
            self._left_over = True
            raise
        finally:
            self._batch = {}
        return files


def ordered(entry_id: bytes) -> tuple[int, int]:
    """The order of ids."""
    first, _, second = entry_id.partition(b"-")
    return int(first), int(second or 0)


def entries_of(answer: Any) -> dict[bytes, dict[bytes, bytes] | None]:
    """The entries of one stream, by id; None for one that is gone."""
    if not answer:
        return {}
    streams = answer.items() if isinstance(answer, dict) else answer
    entries = [entry for _, entries in streams for entry in entries]
    return {entry_id: pairs_of(fields) if fields else None for entry_id, fields in entries}


def signature(tensor: Tensor) -> str:
    """What decides the columns of a file, in 8 hexadecimal digits."""
    names = json.dumps([tensor.dtype, tensor.times is not None]).encode()
    return hashlib.sha256(names + packed(tensor.fields)).hexdigest()[:8]


def table_of(served: Sequence[tuple[bytes, Served]]) -> pyarrow.Table:
    """A table of tensors with the same columns: a row for each key of each call."""
    import numpy
    import pyarrow

    tensors = [one.tensor for _, one in served]
    counts = [len(tensor.keys) for tensor in tensors]

    def repeated(values: Sequence[Any], kind: Any) -> Any:
        pairs = zip(values, counts, strict=True)
        return pyarrow.array([value for value, count in pairs for _ in range(count)], kind)

    keys = [key for tensor in tensors for key in tensor.keys]
    columns = {
        "entry": repeated([entry_id.decode() for entry_id, _ in served], pyarrow.string()),
        "at": repeated(
            [round(one.at * 1000) for _, one in served], pyarrow.timestamp("ms", tz="UTC")
        ),
        "version": repeated([one.version for _, one in served], pyarrow.string()),
        "key": pyarrow.array(keys, pyarrow.binary()),
    }
    of_each = zip(*(tensor.columns() for tensor in tensors), strict=True)
    values = [numpy.concatenate(parts) for parts in of_each]
    statuses = numpy.concatenate([tensor.statuses() for tensor in tensors])
    timed = all(tensor.times is not None for tensor in tensors)
    times = numpy.concatenate([tensor.event_times() for tensor in tensors]) if timed else None
    for place, field in enumerate(tensors[0].fields):
        name = field.decode(errors="backslashreplace") if isinstance(field, bytes) else field
        columns[f"value.{name}"] = arrow_of(values[place])
        columns[f"status.{name}"] = pyarrow.array(statuses[:, place].copy())
        if times is not None:
            columns[f"time.{name}"] = pyarrow.array(times[:, place].copy())
    return pyarrow.table(columns)


def write(path: Path, table: pyarrow.Table) -> None:
    """Write a file that is there as a whole or not at all."""
    from pyarrow import parquet

    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        parquet.write_table(table, part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    # The name too, before the entries are acknowledged.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def batches(filer: Filer, rows: int, seconds: float, *, once: bool) -> Iterator[None]:
    """Read, and yield whenever what was read is to be filed."""
    due = 0.0
    while True:
        was_left = filer.left_over
        if not len(filer):
            due = time.monotonic() + seconds
        wait = 0.0 if once else min(max(due - time.monotonic(), 0.01), 1.0)
        # What is left of an earlier run is one batch, however large: its files' names say so.
        count = filer.read(1000 if was_left else min(rows - len(filer), 1000), wait)
        if was_left:
            if len(filer) and not count:
                yield
        elif len(filer) >= rows or (len(filer) and time.monotonic() >= due):
            yield
        elif once and not count:
            yield
            return


def run(options: argparse.Namespace) -> int:
    """File what is in the stream, until Ctrl-C or, with --once, until it is read."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        print("error: Parquet wants: pip install 'redis-mlserve[arrow]'", file=sys.stderr)
        return 1
    make = Client.cluster if options.cluster else Client.from_url
    client = make(options.url, timeout=options.timeout)
    pause = 0.1
    filer = None
    try:
        while True:
            try:
                if filer is None:
                    group, consumer = options.group, options.consumer
                    filer = Filer(
                        client, options.stream, options.to, group=group, consumer=consumer
                    )
                for _ in batches(filer, options.entries, options.every, once=options.once):
                    told(filer.file())
                    pause = 0.1
                return 0
            except Unavailable as error:
                if options.once:
                    raise
                print(f"{error}; again in {pause:.1f} s", file=sys.stderr, flush=True)
                time.sleep(pause)
                pause = min(2 * pause, 10.0)
    except KeyboardInterrupt:
        # A part of what an earlier run left would have another name than its file.
        if filer is not None and not filer.left_over:
            with contextlib.suppress(Error):
                told(filer.file())
        return 0
    except (Error, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        client.close()


def told(files: Sequence[Path]) -> None:
    """Say which files were written."""
    for path in files:
        print(path, flush=True)
