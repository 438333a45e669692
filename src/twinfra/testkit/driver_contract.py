"""What every driver of the orchestrator must do; each sentence of its port has a test here.

    class TestMyDriver(DriverContract):
        @pytest.fixture
        async def rig(self): ...   # yields a DriverRig

Runs with pytest and pytest-asyncio in auto mode.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from twinfra.core.errors import SiteRejected, Unavailable
from twinfra.orchestration.infrastructure.model import (
    Observation,
    Phase,
    Target,
    Workload,
)
from twinfra.orchestration.infrastructure.ports import Driver
from twinfra.testkit.waiting import wait_for

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "token-of-a-person"  # noqa: S105 - no secret, a fake site takes any


class DriverRig(Protocol):
    """A driver and the site that it drives, under the test's control."""

    driver: Driver
    target: Target

    async def finish(self, uid: str, exit_code: int, log: str = "") -> None:
        """Let the workload end with this code, having written `log`."""
        ...

    async def lose(self, uid: str) -> None:
        """Let the site lose the workload: its keeper is killed."""
        ...

    async def serve(self, uid: str, answer: bytes) -> None:
        """Let the workload's port answer every connection with these bytes."""
        ...

    def reject(self, reason: str) -> None:
        """Let the site refuse what is created from now on."""
        ...

    def go_away(self) -> None:
        """Let the site stop answering."""
        ...

    def lose_next_answer(self) -> None:
        """Let the next creation be carried out and its answer be lost."""
        ...

    def starts(self, uid: str) -> int:
        """Return how often the workload was started."""
        ...


def a_workload(uid: str = "00000000-0000-4000-8000-000000000001", **changes: object) -> Workload:
    """Return a plain job."""
    plain = Workload(uid=uid, node="train", image="climate:1", deployment="d1", group="climate")
    return replace(plain, **changes)  # type: ignore[arg-type] # fields by name, for tests


class DriverContract:
    """The questions; each is one sentence of the port's docstrings."""

    async def test_the_same_uid_is_started_once_when_created_twice(self, rig: DriverRig) -> None:
        """The UID is the key."""
        work = a_workload()
        for _ in range(3):
            await rig.driver.create(rig.target, work, token=TOKEN)

        async def native_id() -> str:
            return (await self._seen(rig, work, restarting=False)).native_id

        known = await wait_for(native_id, what="the site's own id")
        assert await rig.driver.create(rig.target, work, token=TOKEN) == known
        assert rig.starts(work.uid) == 1

    async def test_it_is_started_once_when_the_answer_is_lost(self, rig: DriverRig) -> None:
        """The site is asked before it is asked again."""
        work = a_workload()
        rig.lose_next_answer()
        await rig.driver.create(rig.target, work, token=TOKEN)
        await wait_for(lambda: rig.starts(work.uid), what="its start")
        assert rig.starts(work.uid) == 1

    async def test_refusal_is_final_when_the_site_will_not(self, rig: DriverRig) -> None:
        """With the reason of the site."""
        rig.reject("image unknown")
        with pytest.raises(SiteRejected, match="image unknown"):
            await rig.driver.create(rig.target, a_workload(), token=TOKEN)

    async def test_everything_is_unavailable_when_the_site_is_away(self, rig: DriverRig) -> None:
        """So that the caller repeats it."""
        work = a_workload()
        rig.go_away()
        with pytest.raises(Unavailable):
            await rig.driver.create(rig.target, work, token=TOKEN)
        with pytest.raises(Unavailable):
            await rig.driver.status(rig.target, [work.handle], restarting=False)
        with pytest.raises(Unavailable):
            await rig.driver.delete(rig.target, work.handle)
        with pytest.raises(Unavailable):
            await rig.driver.logs(rig.target, work.handle, tail_lines=5)

    async def test_unknown_workloads_are_absent_when_asked_about(self, rig: DriverRig) -> None:
        """Unknown is no error."""
        known = a_workload()
        stranger = a_workload("00000000-0000-4000-8000-000000000009")
        await rig.driver.create(rig.target, known, token=TOKEN)
        handles = [known.handle, stranger.handle]
        found = await rig.driver.status(rig.target, handles, restarting=False)
        assert set(found) == {known.uid}
        assert await rig.driver.status(rig.target, [], restarting=False) == {}

    async def test_success_is_seen_when_it_ends_with_zero(self, rig: DriverRig) -> None:
        """Zero is success."""
        seen = await self._ended(rig, 0)
        assert (seen.phase, seen.exit_code) == (Phase.SUCCEEDED, 0)

    async def test_failure_has_its_code_and_is_not_the_sites_when_it_ends_with_three(
        self, rig: DriverRig
    ) -> None:
        """The code is kept."""
        seen = await self._ended(rig, 3)
        assert (seen.phase, seen.exit_code, seen.lost) == (Phase.FAILED, 3, False)
        assert seen.started_at is not None

    async def test_it_counts_as_lost_when_its_keeper_is_killed(self, rig: DriverRig) -> None:
        """The site's end of it, whatever would restart it."""
        work = a_workload()
        await rig.driver.create(rig.target, work, token=TOKEN)
        await rig.lose(work.uid)
        for restarting in (False, True):
            seen = await self._seen(rig, work, restarting=restarting)
            assert (seen.phase, seen.lost) == (Phase.FAILED, True)

    async def test_an_end_is_only_a_pause_when_the_site_restarts_it(self, rig: DriverRig) -> None:
        """A service that ends is begun again by its site."""
        work = a_workload(restart=True, port=8080)
        await rig.driver.create(rig.target, work, token=TOKEN)
        await rig.finish(work.uid, 1)
        seen = await self._seen(rig, work, restarting=True)
        assert not seen.phase.final

    async def test_logs_are_bounded_when_lines_are_many(self, rig: DriverRig) -> None:
        """The last lines count."""
        work = a_workload()
        await rig.driver.create(rig.target, work, token=TOKEN)
        await rig.finish(work.uid, 0, "".join(f"line {n}\n" for n in range(100)))
        log = await rig.driver.logs(rig.target, work.handle, tail_lines=3)
        assert log.split("\n")[:3] == ["line 97", "line 98", "line 99"]

    async def test_logs_are_empty_when_the_workload_is_unknown(self, rig: DriverRig) -> None:
        """Unknown is no error."""
        assert await rig.driver.logs(rig.target, a_workload().handle, tail_lines=3) == ""

    async def test_it_is_gone_when_deleted_and_deleting_again_is_fine(self, rig: DriverRig) -> None:
        """Deleting is repeatable."""
        work = a_workload()
        await rig.driver.create(rig.target, work, token=TOKEN)
        await rig.driver.delete(rig.target, work.handle)
        await rig.driver.delete(rig.target, work.handle)

        async def gone() -> bool:
            found = await rig.driver.status(rig.target, [work.handle], restarting=False)
            return work.uid not in found or found[work.uid].phase.final

        await wait_for(gone, what="the end of the workload")

    async def test_changes_are_told_when_watched_after_a_first_empty_one(
        self, rig: DriverRig
    ) -> None:
        """The empty one says that anything may have changed."""
        work = a_workload()
        told: list[str] = []

        async def follow() -> None:
            async for uid in rig.driver.watch(rig.target):
                told.append(uid)  # noqa: PERF401 - each is looked at while the watch goes on

        following = asyncio.create_task(follow())
        try:
            await wait_for(lambda: told[:1] == [""], what="the first event")
            await rig.driver.create(rig.target, work, token=TOKEN)
            await rig.finish(work.uid, 0)
            await wait_for(lambda: work.uid in told, what="a change of the workload")
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def test_a_port_is_reached_as_often_as_wanted_when_it_serves(
        self, rig: DriverRig
    ) -> None:
        """One tunnel, many connections."""
        work = a_workload(restart=True, port=8080)
        await rig.driver.create(rig.target, work, token=TOKEN)
        await rig.serve(work.uid, b"hello")
        tunnel = await rig.driver.connect(rig.target, work.handle, 8080)
        try:
            assert [await _read(tunnel.path) for _ in range(2)] == [b"hello", b"hello"]
        finally:
            await tunnel.close()

    async def test_a_connection_is_closed_at_once_when_nobody_serves(self, rig: DriverRig) -> None:
        """So that a probe sees it."""
        work = a_workload(restart=True, port=8080)
        await rig.driver.create(rig.target, work, token=TOKEN)
        tunnel = await rig.driver.connect(rig.target, work.handle, 8080)
        try:
            assert await _read(tunnel.path) == b""
        finally:
            await tunnel.close()

    async def _ended(self, rig: DriverRig, exit_code: int) -> Observation:
        work = a_workload()
        await rig.driver.create(rig.target, work, token=TOKEN)
        await rig.finish(work.uid, exit_code)
        return await self._seen(rig, work, restarting=False)

    async def _seen(self, rig: DriverRig, work: Workload, *, restarting: bool) -> Observation:
        found = await rig.driver.status(rig.target, [work.handle], restarting=restarting)
        return found[work.uid]


async def _read(path: Path) -> bytes:
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return b""
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
