"""Writes down how pods change and lets everybody know: readers of events, the bus, accounting.

A change, its place among the events and its message for the bus are one transaction.
"""

import asyncio
from typing import Any

from twinfra.compute.interlink.model.status import PodReport
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.compute.interlink.plugin.store import PodStore
from twinfra.core.bus import Event, Outbox
from twinfra.core.database import Connection
from twinfra.core.workflow import Leg

JOB_STATE = "org.twinfra.job.state"


class Journal:
    """Keeps pods and tells of their changes.

    Args:
        store: the tables.
        outbox: towards the bus.
        site: whose pods they are.
    """

    def __init__(self, store: PodStore, outbox: Outbox, site: str) -> None:
        self.store, self._outbox, self._site = store, outbox, site
        self._news = asyncio.Condition()
        self.usage_news = asyncio.Event()

    async def add(self, connection: Connection, pod: KeptPod) -> bool:
        """Keep a new pod and tell that it waits, within the caller's unit of work.

        False where its UID is taken.
        """
        if not await self.store.add(connection, pod):
            return False
        await self.store.note_change(connection, pod, pod.report)
        await self._outbox.add(connection, self._event(pod, pod.report))
        return True

    def tell(self, leg: Leg, pod: KeptPod, report: PodReport) -> None:
        """Have it written down, with the outcome of the work, that `pod` is as `report` says."""

        async def write(connection: Connection) -> None:
            await self.store.note(connection, pod, report)
            if _coarse(pod.report) != _coarse(report):
                await self._outbox.add(connection, self._event(pod, report))

        leg.writes.append(write)
        leg.after.append(self.announce)

    def place(self, leg: Leg, pod: KeptPod, native_id: str) -> None:
        """Have the native id of the present attempt written down with the outcome."""
        leg.writes.append(lambda connection: self.store.put_native_id(connection, pod, native_id))

    async def forget(self, pod: KeptPod) -> None:
        """Drop a pod that is over."""
        async with self.store.database.begin() as connection:
            await self.store.forget(connection, pod)

    def add_usage(self, leg: Leg, record_id: str, record: dict[str, Any]) -> None:
        """Have a usage record kept, with the outcome, until accounting has it."""

        async def announce() -> None:
            self.usage_news.set()

        leg.writes.append(lambda connection: self.store.add_usage(connection, record_id, record))
        leg.after.append(announce)

    async def announce(self) -> None:
        """Let all readers of events look again."""
        async with self._news:
            self._news.notify_all()

    async def wait_news(self) -> None:
        """Return at the next announcement."""
        async with self._news:
            await self._news.wait()

    def _event(self, pod: KeptPod, report: PodReport) -> Event:
        ended = [entry.exit_code for entry in (*report.inits, *report.containers)]
        codes = [code for code in ended if code is not None]
        return Event(
            type=JOB_STATE,
            source=f"/sites/{self._site}/plugin",
            subject=pod.uid,
            site=self._site,
            group=pod.owner.group or None,
            data={
                "uid": pod.uid,
                "site": self._site,
                "phase": report.phase.value,
                "attempt": report.attempt,
                "reason": report.reason,
                "message": report.message,
                "deployment": pod.deployment,
                "node": pod.node,
                "exit_code": next((c for c in codes if c), 0) if report.phase.final else None,
            },
        )


def _coarse(report: PodReport) -> tuple[str, str, int]:
    """Return what of a report is news for the bus; the rest is for readers of the pod itself."""
    return (report.phase.value, report.reason, report.attempt)
