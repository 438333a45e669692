"""Finds jobs at the site whose pod Kubernetes has no more, and ends them.

A job is ours where it says so (it carries cluster and node), or where nobody else sends pods to
this API.
"""

import asyncio
from collections.abc import Mapping

from twinfra.compute.kubelet.pods.record import PodRecord
from twinfra.compute.kubelet.ports import Remote
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)


class Orphans:
    """Compares the site's jobs with the node's pods.

    Args:
        remote: the site.
        pods: of the node, by UID; read only.
        origin: cluster and node, as our jobs carry them.
        clock: paces.
        sole_user: every job there is ours.
        every_s: how often.
    """

    def __init__(
        self,
        remote: Remote,
        pods: Mapping[str, PodRecord],
        origin: str,
        clock: Clock,
        *,
        sole_user: bool,
        every_s: float,
    ) -> None:
        self._remote, self._pods, self._origin = remote, pods, origin
        self._clock, self._sole_user, self._every_s = clock, sole_user, every_s
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Compare soon; before the first call nothing is compared."""
        self._wake.set()

    async def run(self) -> None:
        """Compare again and again; runs until cancelled."""
        await self._wake.wait()
        while True:
            try:
                await self._compare()
            except TwinfraError as error:
                log.info("jobs_not_compared", code=error.code, why=error.detail)
            await self._clock.sleep(self._every_s)

    async def _compare(self) -> None:
        for report in await self._remote.status([]):
            ours = self._sole_user or report.origin == self._origin
            if not ours or report.uid in self._pods:
                continue
            log.warning("orphan_ended", uid=report.uid, name=report.name)
            await self._remote.delete(
                {
                    "metadata": {
                        "name": report.name,
                        "namespace": report.namespace,
                        "uid": report.uid,
                    },
                    "spec": {"containers": [{"name": c.name} for c in report.containers]},
                    "status": {"phase": "Running"},
                }
            )
