"""The port between the pods of a site and whatever runs its jobs.

A back end only places keepers: it queues a job, starts the keeper that the plan asks for, says
how the job is, and ends it. What a pod means is the keeper's business, who may do what is the
plug-in's. A back end is one file (or folder), found by its entry point in the group
``twinfra.sites``, built by its class method ``build(ctx, site)``, and judged by
``twinfra.testkit.site_contract.SiteContract``.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from twinfra.compute.containers.handle import LogQuery
from twinfra.compute.containers.keeper.model import PodStats
from twinfra.compute.containers.session import Session, Streams
from twinfra.compute.sites.model import JobSpec, JobStatus, SiteFigures
from twinfra.core.service import Context

LOGS = "logs"
STATS = "stats"
CHANGES = "changes"
EXEC = "exec"
CAPABILITIES = frozenset({LOGS, STATS, CHANGES, EXEC})


class Site(Protocol):
    """What every back end does; more is a declared capability.

    ``capabilities`` names which of `LogSite` (``logs``), `StatsSite` (``stats``), `ChangeSite`
    (``changes``) and `ExecSite` (``exec``) it also is.
    """

    capabilities: frozenset[str]

    async def submit(self, spec: JobSpec) -> str:
        """Hand in a job and return its native id.

        On return the job is durable at the back end: it outlives this process. The same name is
        accepted once; submitting it again returns the id that it already has.

        Raises:
            SiteRejected: the site will never run this job; of no use to try again.
            InsufficientCapacity: the site does not queue and has no room now.
            Unavailable: the batch system does not answer (retryable; `find` first).
        """
        ...

    async def find(self, name: str) -> str | None:
        """Return the native id of the job that was submitted under `name`, or none.

        Raises:
            Unavailable: the batch system does not answer (retryable).
        """
        ...

    async def status(self, native_ids: Sequence[str]) -> Mapping[str, JobStatus]:
        """Say how jobs are, all in one question to the batch system.

        An id that the back end does not know is absent from the answer. A final state is told
        only once no process of the job is left; it never changes. A job whose keeper died is
        proved gone first, then FAILED with reason ``KeeperLost``.

        Raises:
            Unavailable: the batch system does not answer (retryable).
        """
        ...

    async def cancel(self, native_id: str) -> None:
        """Ask for the end of a job: its pod gets SIGTERM, after its grace SIGKILL.

        Returns at once; the state tells when it is over. For a job that has ended, or that nobody
        knows, nothing happens.

        Raises:
            Unavailable: the batch system does not answer (retryable).
        """
        ...

    async def ping(self) -> SiteFigures:
        """Prove that the batch system works and return its figures.

        Raises:
            Unavailable: it does not work; the detail says why.
        """
        ...

    async def connect(
        self, native_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a byte stream to ``127.0.0.1:port`` in the pod's own network.

        Raises:
            NotFound: there is no such job.
            Unavailable: it does not run, or nothing listens there (retryable).
        """
        ...


class LogSite(Protocol):
    """Capability ``logs``."""

    def logs(
        self, native_id: str, query: LogQuery, *, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """Yield the wanted lines; with `follow`, new ones too until the container has ended.

        Raises:
            NotFound: there is no such job or container, or no log of that attempt.
        """
        ...


class StatsSite(Protocol):
    """Capability ``stats``."""

    async def stats(self, native_id: str) -> PodStats | None:
        """Return real figures of a job, the last ones when it has ended; none before any."""
        ...


class ChangeSite(Protocol):
    """Capability ``changes``: a back end that tells, so that nobody has to ask."""

    def changes(self) -> AsyncIterator[str]:
        """Yield the native id of each job whose status may have changed, as it changes.

        Every iterator sees every change from its first step on; none is lost, though several of
        one job may be told as one.
        """
        ...


class ExecSite(Protocol):
    """Capability ``exec``: commands within running containers, and their own processes joined.

    Any back end that has a byte stream to its keepers' sockets has it: `session.exec_request` and
    `KeeperSession` are the rest.
    """

    async def exec(
        self, native_id: str, container: str, command: Sequence[str], streams: Streams
    ) -> Session:
        """Run a command in the namespaces of a running container.

        Its end comes as a Status with its exit code; closing the session ends it, with all that it
        started. Several run at once; each has its own streams.

        Raises:
            NotFound: there is no such job or container.
            InvalidRequest: the command is empty, or holds what no process can be given.
            RateLimited: too many sessions with this job at once (retryable).
            Unavailable: the container does not run (retryable).
        """
        ...

    async def attach(self, native_id: str, container: str, streams: Streams) -> Session:
        """Join a container's own process: its output from now on, its input where it has one.

        The Status comes when this run of the container has ended; closing the session leaves the
        container as it is, but for the end of its input where its pod says ``stdinOnce``.

        Raises:
            NotFound: there is no such job or container.
            InvalidRequest: input, or a terminal, of a container that has none.
            RateLimited: too many sessions with this job at once (retryable).
            Unavailable: the container does not run (retryable).
        """
        ...


@runtime_checkable
class RunningSite(Protocol):
    """A back end that has work of its own beside the calls, such as a queue to keep moving."""

    async def open(self) -> None:
        """Get ready: tables, connections, living keepers adopted; before any other call."""
        ...

    async def run(self) -> None:
        """Do that work for ever; runs until cancelled. Living jobs are spared then."""
        ...

    async def close(self) -> None:
        """Let go of what `open` took; jobs go on."""
        ...


class SiteClass(Protocol):
    """What an entry point of the group ``twinfra.sites`` names."""

    def build(self, ctx: Context, site: str) -> Site:
        """Return the back end of `site`, its settings read, nothing started."""
        ...
