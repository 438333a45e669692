"""Real servers as child processes: own folder, own log, stopped by pid."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from twinfra.testkit.waiting import wait_for_sync

STOP_WITHIN_S = 10


class ServerDidNotStart(AssertionError):
    """A server ended or stayed silent; the message holds the end of its log."""


@contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    log: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
    stop_signal: int = signal.SIGTERM,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends.

    Args:
        argv: the command.
        log: where its output goes.
        ready: says whether it serves.
        environment: added to ours.
        timeout_s: to become ready.
        stop_signal: asks it to end; after ten seconds it is killed.
        user: to run as; needs root.

    Raises:
        ServerDidNotStart: with the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},  # noqa: TID251 - a child inherits ours
        )
    try:
        try:
            wait_for_sync(
                lambda: ready() or process.poll() is not None,
                timeout_s=timeout_s,
                what=str(argv[0]),
            )
        except AssertionError as error:
            raise ServerDidNotStart(_end_of(log)) from error
        if process.poll() is not None:
            raise ServerDidNotStart(f"exit {process.returncode}: {_end_of(log)}")
        yield process
    finally:
        stop(process, stop_signal)


def stop(process: subprocess.Popen[bytes], stop_signal: int = signal.SIGTERM) -> None:
    """Stop `process` and what it started in its session."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(stop_signal)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(log: Path) -> str:
    return f"{log.name}: …{log.read_text(errors='replace')[-2000:]}"
