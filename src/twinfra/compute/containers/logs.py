"""Reads the CRI logs that keepers write, with the questions of `kubectl logs`.

It must not talk to a keeper: the files are enough, also after its end. The writer is
`keeper/output.py`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinfra.compute.containers.keeper import journal
from twinfra.compute.containers.keeper.model import PodState
from twinfra.core.errors import NotFound

_LOOK_S = 0.1


@dataclass(frozen=True)
class LogQuery:
    """What `kubectl logs` can ask."""

    container: str
    previous: bool = False
    """The run before the present one."""
    since: datetime | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None
    timestamps: bool = False
    attempt: int | None = None
    """None is the latest."""


def log_file(jobdir: Path, query: LogQuery) -> Path:
    """Return the file of the wanted run; its older half, if any, is beside it as `.1`.

    Raises:
        NotFound: no such container, or it has no such run.
    """
    attempt = query.attempt or _latest(jobdir / journal.ATTEMPTS, "")
    folder = journal.attempt_dir(jobdir, attempt or 0) / "logs"
    if "/" in query.container or query.container in {"", ".", ".."}:
        raise NotFound("no such container")
    run = _latest(folder / query.container, ".log")
    wanted = run - 1 if run is not None and query.previous else run
    if wanted is None or wanted < 0:
        what = "previous log" if query.previous else "log"
        raise NotFound(f"container {query.container} has no {what}")
    return folder / query.container / f"{wanted}.log"


def _latest(folder: Path, suffix: str) -> int | None:
    if not folder.is_dir():
        return None
    names = (path.name for path in folder.iterdir() if path.name.endswith(suffix))
    numbers = [int(stem) for name in names if (stem := name.removesuffix(suffix)).isdigit()]
    return max(numbers, default=None)


def read_log(path: Path, query: LogQuery) -> Iterator[bytes]:
    """Yield the wanted lines, each with its newline; the last may be cut by `limit_bytes`."""
    older = path.with_name(path.name + ".1")
    entries = assemble(_records(file for file in (older, path)))
    lines = select(entries, query)
    if query.tail_lines is not None:
        lines = iter(deque(lines, maxlen=max(0, query.tail_lines)))
    return cut(lines, query.limit_bytes)


def _records(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        if file.exists():
            with file.open("rb") as log:
                yield from log


class Assembler:
    """Joins partial records into lines, each with the time of its first piece."""

    def __init__(self) -> None:
        self._parts: dict[bytes, tuple[bytes, list[bytes]]] = {}

    def add(self, record: bytes) -> tuple[bytes, bytes] | None:
        """Take one whole record; return time and text if it completes a line."""
        fields = record.rstrip(b"\n").split(b" ", 3)
        if len(fields) < 4:
            return None
        at, stream, tag, text = fields
        began, pieces = self._parts.pop(stream, (at, []))
        pieces.append(text)
        if tag == b"P":
            self._parts[stream] = (began, pieces)
            return None
        return began, b"".join(pieces)


def assemble(
    records: Iterable[bytes], assembler: Assembler | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Join partial records into lines; a record still under way (no newline) is left out."""
    assembler = assembler or Assembler()
    for record in records:
        entry = assembler.add(record) if record.endswith(b"\n") else None
        if entry is not None:
            yield entry


def select(entries: Iterable[tuple[bytes, bytes]], query: LogQuery) -> Iterator[bytes]:
    """Keep what is new enough and spell it, with its time if asked."""
    since = _spell(query.since) if query.since is not None else b""
    for at, text in entries:
        if at >= since:
            yield (at + b" " + text if query.timestamps else text) + b"\n"


def _spell(moment: datetime) -> bytes:
    """Spell a moment as the log does, so that order of text is order of time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()


def cut(lines: Iterable[bytes], limit_bytes: int | None) -> Iterator[bytes]:
    """Stop after that many bytes."""
    left = limit_bytes
    for line in lines:
        if left is None:
            yield line
            continue
        if left <= 0:
            return
        yield line[:left]
        left -= len(line)


async def follow(path: Path, query: LogQuery, over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the wanted lines, then new ones as they come, until `over` and all is read.

    Follows the file through a rotation. Looks ten times a second, and once more after the end.
    """
    left = query.limit_bytes
    assembler = Assembler()
    ended = False
    for count, records in enumerate(_growing(path)):
        lines = select(assemble(records, assembler), query)
        if count == 0 and query.tail_lines is not None:
            lines = iter(deque(lines, maxlen=max(0, query.tail_lines)))
        for line in cut(lines, left):
            yield line
            left = None if left is None else left - len(line)
        if ended or (left is not None and left <= 0):
            return
        if not records:
            ended = over()
            await asyncio.sleep(0 if ended else _LOOK_S)


def all_written(path: Path, state: PodState) -> bool:
    """Tell whether the log of a run is whole, by what the keeper says of its attempt."""
    run = int(path.stem)
    if state.final or path.with_name(f"{run + 1}.log").exists():
        return True
    return any(
        each.restart_count == run and not each.running and (each.terminated or each.last_terminated)
        for each in (*state.init_containers, *state.containers)
        if each.name == path.parent.name
    )


def _growing(path: Path) -> Iterator[list[bytes]]:
    """Yield again and again what has been added since: first all there is."""
    yield list(_records([path.with_name(path.name + ".1")])) + (tail := _Tail(path)).read()
    while True:
        yield tail.read()


class _Tail:
    """Reads whole records as they are added, and goes over to the new file after a rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._at = 0

    def read(self) -> list[bytes]:
        records: list[bytes] = []
        older = self._path.with_name(self._path.name + ".1")
        try:
            inode = self._path.stat().st_ino
            if self._inode and inode != self._inode:
                records = self._rest(older) if older.stat().st_ino == self._inode else []
                self._at = 0
            self._inode = inode
            return records + self._rest(self._path)
        except FileNotFoundError:  # in the middle of a rotation: look again
            return records

    def _rest(self, path: Path) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(self._at)
            records = [record for record in file if record.endswith(b"\n")]
        self._at += sum(len(record) for record in records)
        return records
