"""Runs the tools that build images: argv only, no input, output into the build's log."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from twinfra.compute.containers.errors import ImageBuildFailed
from twinfra.core.errors import shorten

_LIMIT_S = 1800.0
_TAIL_BYTES = 4096


def run(
    argv: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
) -> None:
    """Run a tool to its end, in our own environment: apt and pip read proxies and caches from it.

    Args:
        argv: the command.
        log: its output is added here.
        cwd: working directory.

    Raises:
        ImageBuildFailed: it is missing, fails or takes too long.
    """
    words = [str(word) for word in argv]
    with log.open("ab") as sink:
        start = sink.tell()
        sink.write(f"$ {' '.join(words)}\n".encode())
        sink.flush()
        try:
            done = subprocess.run(
                words, check=False, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                cwd=cwd, timeout=_LIMIT_S,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise ImageBuildFailed(f"{words[0]} could not be run: {error}") from error
    if done.returncode != 0:
        with log.open("rb") as source:
            source.seek(max(start, log.stat().st_size - _TAIL_BYTES))
            tail = source.read().decode(errors="replace").strip().splitlines()
        said = shorten(" | ".join(tail[-3:]))
        raise ImageBuildFailed(f"{words[0]} ended with {done.returncode}: {said}")


def output(argv: Sequence[str | Path]) -> str:
    """Return what a quick tool prints; empty if it fails or is missing."""
    try:
        done = subprocess.run(
            [str(word) for word in argv], check=False, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=120,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
