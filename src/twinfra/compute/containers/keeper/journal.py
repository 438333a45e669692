"""Turns the model into files of the job directory and back.

Every write is complete or absent (rename after fsync). It must not decide anything; `pod.py` does.
"""

import dataclasses
import functools
import itertools
import json
import os
import time
import typing
from pathlib import Path
from typing import Any, Optional, TypeVar

PLAN = "plan.json"
STATE = "state.json"
STATS = "stats.json"
IDENTITY = "identity.json"
LOCK = "lock"
SOCKET = "keeper.sock"
LOG = "keeper.log"
ATTEMPTS = "attempts"
LAUNCHED = "launched"
"""In the attempt's folder: one line `pid start_ticks` for each process started."""

T = TypeVar("T")
_count = itertools.count()


class MalformedError(ValueError):
    """A file or message does not have the form of the model; the text names the field."""


def now_text(moment: Optional[float] = None) -> str:
    """Spell a moment (seconds since the epoch, default now) as RFC 3339 with nanosecond digits."""
    nanoseconds = time.time_ns() if moment is None else int(moment * 1e9)
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{rest:09d}Z"


def attempt_dir(jobdir: Path, attempt: int) -> Path:
    """Return the folder of one attempt."""
    return jobdir / ATTEMPTS / str(attempt)


def last_attempt(jobdir: Path) -> int:
    """Return the highest attempt that a keeper has claimed; 0 if none."""
    try:
        names = os.listdir(jobdir / ATTEMPTS)
    except FileNotFoundError:
        return 0
    return max((int(name) for name in names if name.isdigit()), default=0)


def encode(value: Any) -> str:
    """Return a dataclass of the model as one line of JSON."""
    return json.dumps(dataclasses.asdict(value), separators=(",", ":"))


def decode(kind: type[T], text: str) -> T:
    """Read one dataclass of the model from JSON; unknown keys are ignored.

    Raises:
        MalformedError: not JSON, a key is missing, or a value has another type.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise MalformedError(f"not JSON: {error}") from error
    return typing.cast("T", build(kind, data, kind.__name__))


def build(kind: Any, data: Any, where: str = "answer") -> Any:
    """Turn parsed JSON into a dataclass of the model.

    Raises:
        MalformedError: a key is missing or a value has another type.
    """
    origin = typing.get_origin(kind)
    if origin is typing.Union:
        inner = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        return None if data is None else build(inner, data, where)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, data, where)
    if origin is tuple:
        return _build_tuple(typing.get_args(kind), data, where)
    if origin is dict:
        _expect(isinstance(data, dict), where, "an object")
        _, item = typing.get_args(kind)
        return {key: build(item, value, f"{where}.{key}") for key, value in data.items()}
    if kind is float:
        _expect(isinstance(data, (int, float)) and not isinstance(data, bool), where, "a number")
        return float(data)
    _expect(type(data) is kind, where, kind.__name__)
    return data


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build_dataclass(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), where, "an object")
    hints = _hints(kind)
    values = {}
    for item in dataclasses.fields(kind):
        if item.name in data:
            values[item.name] = build(hints[item.name], data[item.name], f"{where}.{item.name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise MalformedError(f"{where}.{item.name} is missing")
    return kind(**values)


def _build_tuple(args: tuple[Any, ...], data: Any, where: str) -> Any:
    _expect(isinstance(data, (list, tuple)), where, "a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(build(args[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    _expect(len(data) == len(args), where, f"{len(args)} items")
    return tuple(build(kind, item, where) for kind, item in zip(args, data))


def _expect(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise MalformedError(f"{where} is not {what}")


def write(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace the file by the dataclass's JSON; readers see the old or the new, nothing between."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{next(_count)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(encode(value) + "\n")
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.rename(beside, path)
    except OSError:
        os.unlink(beside)
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names within a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(kind: type[T], path: Path) -> Optional[T]:
    """Read a file written by `write`; None if it does not exist.

    Raises:
        MalformedError: it exists and is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return decode(kind, text)
