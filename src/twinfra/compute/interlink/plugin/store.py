"""The plug-in's tables: pods, their changes, usage still to be posted, events for the bus, work."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from twinfra.compute.interlink.model.status import PodReport
from twinfra.compute.interlink.plugin.model import KeptEvent, KeptPod, Owner
from twinfra.core.bus import outbox_table
from twinfra.core.database import Connection, Database, UTCDateTime
from twinfra.core.workflow import WorkState, workflow_table

MIGRATIONS = "twinfra.compute.interlink.plugin.migrations"
METADATA = MetaData()

PODS = Table(
    "pods",
    METADATA,
    Column("uid", String(64), primary_key=True),
    Column("work", String(64), nullable=False, unique=True),
    Column("phase", String(16), nullable=False),
    Column("report", JSON, nullable=False),
    Column("owner", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    Column("delegation", JSON(none_as_null=True), nullable=True),
    Column("deployment", String(255), nullable=False, default=""),
    Column("node", String(255), nullable=False, default=""),
    Column("native_id", String(255), nullable=False, default=""),
    Column("deleting", Boolean, nullable=False, default=False),
    Column("created_at", UTCDateTime, nullable=False),
    Index("pods_native_id", "native_id"),
    Index("pods_phase", "phase"),
)

EVENTS = Table(
    "pod_events",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uid", String(64), nullable=False),
    Column("owner", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    sqlite_autoincrement=True,
)

USAGE = Table(
    "usage_outbox",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("record", JSON, nullable=False),
)

OUTBOX = outbox_table(METADATA)
WORKFLOW = workflow_table(METADATA)

# Built once: these are asked several times in the life of each pod.
OF_UID = select(PODS).where(PODS.c.uid == bindparam("key"))
OF_WORK = select(PODS).where(PODS.c.work == bindparam("key"))
NOTE = (
    update(PODS)
    .where(PODS.c.work == bindparam("of_work"))
    .values(report=bindparam("told"), phase=bindparam("in_phase"))
)
PLACED = (
    update(PODS).where(PODS.c.work == bindparam("of_work")).values(native_id=bindparam("placed"))
)
EVENT = insert(EVENTS)
REPORTS = select(PODS.c.owner, PODS.c.report).where(
    PODS.c.uid.in_(bindparam("some", expanding=True))
)
WORKS_OF = select(PODS.c.work).where(PODS.c.native_id.in_(bindparam("some", expanding=True)))
EVENTS_AFTER = (
    select(EVENTS)
    .where(EVENTS.c.id > bindparam("after"))
    .order_by(EVENTS.c.id)
    .limit(bindparam("most"))
)


class PodStore:
    """Keeps pods. Calls that take a connection belong to the caller's unit of work."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._new_pod = database.insert(PODS).on_conflict_do_nothing()
        self._new_usage = database.insert(USAGE).on_conflict_do_nothing()

    async def add(self, connection: Connection, pod: KeptPod) -> bool:
        """Keep a new pod; false where its UID is taken."""
        row = {
            "uid": pod.uid,
            "work": pod.work,
            "phase": pod.report.phase.value,
            "report": pod.report.to_event(),
            "owner": asdict(pod.owner),
            "body": pod.body,
            "delegation": pod.delegation,
            "deployment": pod.deployment,
            "node": pod.node,
            "native_id": pod.native_id,
            "deleting": pod.deleting,
            "created_at": pod.created_at,
        }
        return bool((await connection.execute(self._new_pod, row)).rowcount)

    async def get(self, uid: str) -> KeptPod | None:
        """Return the pod with this UID, or none."""
        return await self._one(OF_UID, uid)

    async def of_work(self, work: str) -> KeptPod | None:
        """Return the pod whose durable work has this key, or none."""
        return await self._one(OF_WORK, work)

    async def reports(self, uids: Sequence[str]) -> list[tuple[Owner, PodReport]]:
        """Return the reports of those of `uids` that are known, each with its owner."""
        found: list[tuple[Owner, PodReport]] = []
        async with self.database.read() as connection:
            for start in range(0, len(uids), 500):
                some = {"some": uids[start : start + 500]}
                found += [
                    (Owner(**row.owner), PodReport.from_event(row.report))
                    for row in await connection.execute(REPORTS, some)
                ]
        return found

    async def live(self) -> list[KeptPod]:
        """Return the pods that are not over."""
        return await self._some(PODS.c.phase.in_(("Pending", "Running", "Unknown")))

    async def count_live(self) -> int:
        """Return how many pods are not over."""
        async with self.database.read() as connection:
            query = (
                select(func.count())
                .select_from(PODS)
                .where(PODS.c.phase.in_(("Pending", "Running", "Unknown")))
            )
            return int((await connection.execute(query)).scalar_one())

    async def works_of(self, native_ids: Sequence[str]) -> list[str]:
        """Return the work keys of the pods that have these native ids."""
        found: list[str] = []
        async with self.database.read() as connection:
            for start in range(0, len(native_ids), 500):
                some = {"some": native_ids[start : start + 500]}
                found += (await connection.execute(WORKS_OF, some)).scalars()
        return found

    async def note(self, connection: Connection, pod: KeptPod, report: PodReport) -> None:
        """Write down how a pod is now, and the change that readers will be told."""
        body = report.to_event()
        told = {"of_work": pod.work, "told": body, "in_phase": report.phase.value}
        await connection.execute(NOTE, told)
        await self.note_change(connection, pod, report)

    async def note_change(self, connection: Connection, pod: KeptPod, report: PodReport) -> None:
        """Write down the change alone: the pod was just kept as it is."""
        body = report.to_event()
        await connection.execute(EVENT, {"uid": pod.uid, "owner": asdict(pod.owner), "body": body})

    async def put_native_id(self, connection: Connection, pod: KeptPod, native_id: str) -> None:
        """Write down the native id of the present attempt."""
        await connection.execute(PLACED, {"of_work": pod.work, "placed": native_id})

    async def put_body(self, pod: KeptPod, body: dict[str, Any]) -> None:
        """Write down what a pod asks for now: objects of it were renewed."""
        async with self.database.begin() as connection:
            await connection.execute(update(PODS).where(PODS.c.work == pod.work).values(body=body))

    async def mark_deleting(self, connection: Connection, pod: KeptPod) -> None:
        """Write down that a pod's end was asked for."""
        await connection.execute(update(PODS).where(PODS.c.work == pod.work).values(deleting=True))

    async def forget(self, connection: Connection, pod: KeptPod) -> None:
        """Drop a pod; its changes can still be read."""
        await connection.execute(delete(PODS).where(PODS.c.work == pod.work))

    async def events_after(self, after: int, limit: int = 200) -> list[KeptEvent]:
        """Return the changes that follow number `after`, in order."""
        async with self.database.read() as connection:
            page = {"after": after, "most": limit}
            return [_event(row) for row in await connection.execute(EVENTS_AFTER, page)]

    async def event_range(self) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest change kept; (1, 0) where none is."""
        async with self.database.read() as connection:
            query = select(func.min(EVENTS.c.id), func.max(EVENTS.c.id))
            oldest, newest = (await connection.execute(query)).one()
        return (oldest, newest) if newest else (1, 0)

    async def prune(self, kept: int, before: datetime) -> None:
        """Drop changes beyond the newest `kept`, and finished work older than `before`."""
        _, newest = await self.event_range()
        async with self.database.begin() as connection:
            await connection.execute(delete(EVENTS).where(EVENTS.c.id <= newest - kept))
            over = WORKFLOW.c.state.in_([WorkState.DONE, WorkState.FAILED, WorkState.CANCELLED])
            await connection.execute(
                delete(WORKFLOW).where(over).where(WORKFLOW.c.updated_at < before)
            )

    async def add_usage(
        self, connection: Connection, record_id: str, record: dict[str, Any]
    ) -> None:
        """Keep a usage record until accounting has it; the same id is kept once."""
        await connection.execute(self._new_usage, {"id": record_id, "record": record})

    async def usage(self, limit: int = 100) -> list[tuple[str, dict[str, Any]]]:
        """Return usage records that accounting does not have yet."""
        async with self.database.read() as connection:
            rows = await connection.execute(select(USAGE).order_by(USAGE.c.id).limit(limit))
            return [(row.id, row.record) for row in rows]

    async def drop_usage(self, ids: Sequence[str]) -> None:
        """Forget usage records that accounting has."""
        async with self.database.begin() as connection:
            await connection.execute(delete(USAGE).where(USAGE.c.id.in_(ids)))

    async def _one(self, query: Select[Any], key: str) -> KeptPod | None:
        async with self.database.read() as connection:
            row = (await connection.execute(query, {"key": key})).one_or_none()
        return None if row is None else _pod(row)

    async def _some(self, condition: Any) -> list[KeptPod]:
        async with self.database.read() as connection:
            query = select(PODS).where(condition).order_by(PODS.c.created_at)
            return [_pod(row) for row in await connection.execute(query)]


def _pod(row: Any) -> KeptPod:
    return KeptPod(
        report=PodReport.from_event(row.report),
        owner=Owner(**row.owner),
        body=row.body,
        work=row.work,
        created_at=row.created_at,
        delegation=row.delegation,
        deployment=row.deployment,
        node=row.node,
        native_id=row.native_id,
        deleting=bool(row.deleting),
    )


def _event(row: Any) -> KeptEvent:
    owner = Owner(**row.owner)
    return KeptEvent(row.id, row.uid, owner.issuer, owner.sub, owner.group, row.body)
