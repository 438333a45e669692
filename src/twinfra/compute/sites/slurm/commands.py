"""Runs Slurm's commands: argv only, bounded, each failure either for ever or for now.

It must not read their answers: the neighbour ``states`` does.

Source: squeue(1), sbatch(1), scancel(1), sinfo(1), sacct(1); their texts for a controller that is
away, in slurm_errno.
"""

import asyncio
import os
import re
import shlex
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import BinaryIO

from twinfra.compute.sites.slurm.settings import SlurmSettings
from twinfra.core.errors import SiteRejected, Unavailable, shorten

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/slurm/bin"
NOT_RUN = frozenset({126, 127, 255})
"""Codes of ``env`` for a command that is not there, and of ``ssh`` for a host that is not."""
TRANSIENT = re.compile(
    r"unable to contact slurm|socket timed out|connect(ion)? (failure|refused|reset|timed out)"
    r"|backup controller|in standby|zero bytes|temporarily un|try again|resources? .*unavailable"
    r"|munge|communication|protocol authentication|max\w*submit\w*limit|too many (jobs|requests)"
    r"|rate limit|no route to host|could not resolve|slurm_load_\w+ error: (unable|socket)"
    r"|job violates accounting/qos policy \(job submit limit",
    re.IGNORECASE,
)
"""What Slurm says when the same question may be answered later."""

END_WITHIN_S = 5.0

_PREFIX = re.compile(r"^\w+: (error: )?", re.MULTILINE)


class SlurmCommands:
    """Slurm's commands at a site.

    Args:
        settings: how they are reached.
    """

    def __init__(self, settings: SlurmSettings) -> None:
        self._settings = settings
        home = os.path.expanduser("~")  # noqa: PTH111 - as text
        self.environment = {"PATH": PATH, "HOME": home} | settings.environment
        given = {"TZ": "UTC", "LC_ALL": "C"} | settings.environment
        self._env = ["env", *(f"{name}={value}" for name, value in given.items())]

    def argv(self, *words: str) -> list[str]:
        """Return the command as it is run here, behind the site's prefix."""
        prefix = self._settings.command_prefix
        words = (*self._env, *words)
        if any(PurePosixPath(word).name == "ssh" for word in prefix):
            words = tuple(shlex.quote(word) for word in words)
        return [*prefix, *words]

    async def run(self, *words: str, stdin: str = "", accept: Sequence[str] = ()) -> str:
        """Run a command and return what it writes.

        Args:
            words: the command.
            stdin: what it reads.
            accept: parts of error texts that are no failure.

        Raises:
            SiteRejected: it says no, in these words.
            Unavailable: it cannot be run, takes too long, or says that Slurm is away (retryable).
        """
        name = words[0]
        try:
            with _input(stdin) as source:
                process = await asyncio.create_subprocess_exec(
                    *self.argv(*words),
                    stdin=source,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=self.environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise Unavailable(f"{name} cannot be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._settings.command_timeout_s):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise Unavailable(f"{name} did not answer in time") from error
        finally:
            await end_process(process)
        said = err.decode(errors="replace")
        if process.returncode == 0 or any(text in said for text in accept):
            return out.decode(errors="replace")
        text = shorten(" ".join(_PREFIX.sub("", said).split()) or f"{name} failed without a word")
        if process.returncode in NOT_RUN or TRANSIENT.search(said) or not said.strip():
            raise Unavailable(f"{name}: {text}")
        raise SiteRejected(text)


def _input(text: str) -> BinaryIO:
    """Return what a command reads, all of it at hand: a command may end before it has read."""
    file = os.fdopen(os.memfd_create("stdin"), "r+b")
    file.write(text.encode())
    file.seek(0)
    return file


async def end_process(process: asyncio.subprocess.Process) -> None:
    """End a process of ours and what it started in its session, and wait until it has.

    Not by the process's own methods: they may reap it under asyncio's hands.
    """
    if process.returncode is not None:
        return
    for number, patience_s in ((signal.SIGTERM, END_WITHIN_S), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await process.wait()
                return
