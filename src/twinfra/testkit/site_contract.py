"""What every back end of the port `Site` must do; each sentence of the port has a test here.

    class TestMySite(SiteContract):
        @pytest.fixture
        async def house(self, tmp_path): ...   # yields a SiteHouse

Runs with pytest and pytest-asyncio in auto mode.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from twinfra.compute.containers.handle import LogQuery
from twinfra.compute.containers.keeper import channels
from twinfra.compute.containers.session import Session, Streams
from twinfra.compute.sites.model import JobSpec, JobState, JobStatus
from twinfra.compute.sites.ports import (
    CAPABILITIES,
    CHANGES,
    EXEC,
    LOGS,
    STATS,
    ChangeSite,
    ExecSite,
    LogSite,
    Site,
    StatsSite,
)
from twinfra.core.errors import InvalidRequest, NotFound, Unavailable
from twinfra.core.ids import new_uuid
from twinfra.testkit.waiting import wait_for


@dataclass(frozen=True)
class JobWish:
    """What a test wants a job to do.

    Attributes:
        exit_code: it ends with.
        output: it writes, before it ends or hangs.
        hang: it runs until it is cancelled.
        echo_port: it answers each connection to this port with what it is sent; it hangs then.
    """

    exit_code: int = 0
    output: bytes = b""
    hang: bool = False
    echo_port: int = 0


@dataclass(frozen=True)
class SiteHouse:
    """A back end under test.

    Attributes:
        site: the back end.
        job: makes the job that does what is wished; its main container is called ``main``.
        lose_keeper: kills the keeper of a running job, by native id; none where a test cannot.
        patience_s: how long a state may take to come.
    """

    site: Site
    job: Callable[[str, JobWish], JobSpec]
    lose_keeper: Callable[[str], Awaitable[None]] | None = None
    patience_s: float = 20.0

    async def until(self, native_id: str, *states: JobState) -> JobStatus:
        """Wait until a job is in one of `states`."""

        async def reached() -> list[JobStatus]:
            found = (await self.site.status([native_id])).get(native_id)
            return [found] if found is not None and found.state in states else []

        return (await wait_for(reached, timeout_s=self.patience_s, what=f"job {native_id}"))[0]

    async def end(self, native_id: str) -> JobStatus:
        """Wait until a job has ended."""
        return await self.until(native_id, *(state for state in JobState if state.final))


class SiteContract:
    """The suite; a subclass provides the fixture ``house``."""

    @pytest.fixture
    def house(self) -> SiteHouse:
        """Return the back end under test."""
        raise NotImplementedError

    async def test_completes_when_the_exit_code_is_zero(self, house: SiteHouse) -> None:
        """Zero is success."""
        native_id = await house.site.submit(house.job(new_uuid(), JobWish()))
        status = await house.end(native_id)
        assert (status.state, status.exit_code) == (JobState.COMPLETED, 0)

    async def test_fails_with_its_code_when_the_exit_code_is_not_zero(
        self, house: SiteHouse
    ) -> None:
        """The code is kept."""
        native_id = await house.site.submit(house.job(new_uuid(), JobWish(exit_code=3)))
        status = await house.end(native_id)
        assert (status.state, status.exit_code) == (JobState.FAILED, 3)

    async def test_id_is_absent_when_it_is_unknown(self, house: SiteHouse) -> None:
        """Unknown is no error."""
        assert dict(await house.site.status(["999999"])) == {}

    async def test_answers_for_all_jobs_when_asked_once(self, house: SiteHouse) -> None:
        """One question, many answers."""
        jobs = [house.job(new_uuid(), JobWish()) for _ in range(3)]
        ids = [await house.site.submit(job) for job in jobs]
        assert set(await house.site.status([*ids, "999999"])) == set(ids)
        for native_id in ids:
            await house.end(native_id)

    async def test_gives_the_same_id_when_a_name_is_submitted_twice(self, house: SiteHouse) -> None:
        """A name is accepted once."""
        job = house.job(new_uuid(), JobWish())
        assert await house.site.submit(job) == await house.site.submit(job)

    async def test_finds_the_native_id_when_the_name_was_submitted(self, house: SiteHouse) -> None:
        """What a crashed caller asks first."""
        job = house.job(new_uuid(), JobWish())
        assert await house.site.find(job.name) is None
        native_id = await house.site.submit(job)
        assert await house.site.find(job.name) == native_id
        await house.end(native_id)
        assert await house.site.find(job.name) == native_id

    async def test_ends_when_cancelled(self, house: SiteHouse) -> None:
        """A running job ends and says so."""
        native_id = await house.site.submit(house.job(new_uuid(), JobWish(hang=True)))
        await house.until(native_id, JobState.RUNNING)
        await house.site.cancel(native_id)
        assert (await house.end(native_id)).state is JobState.CANCELLED

    async def test_stays_as_it_is_when_cancelled_after_its_end(self, house: SiteHouse) -> None:
        """A final state never changes."""
        native_id = await house.site.submit(house.job(new_uuid(), JobWish(exit_code=3)))
        before = await house.end(native_id)
        await house.site.cancel(native_id)
        after = (await house.site.status([native_id]))[native_id]
        assert (after.state, after.exit_code) == (before.state, before.exit_code)

    async def test_does_nothing_when_an_unknown_job_is_cancelled(self, house: SiteHouse) -> None:
        """Cancelling is repeatable."""
        await house.site.cancel("999999")

    async def test_tells_its_figures_when_pinged(self, house: SiteHouse) -> None:
        """A ping proves that the back end works."""
        figures = await house.site.ping()
        assert figures.queue_length >= 0
        assert figures.wait_s >= 0

    async def test_cannot_connect_when_the_job_is_unknown(self, house: SiteHouse) -> None:
        """No job, no port."""
        with pytest.raises(NotFound):
            await house.site.connect("999999", 80)

    async def test_cannot_connect_when_nothing_listens(self, house: SiteHouse) -> None:
        """It may listen later: retryable."""
        native_id = await house.site.submit(house.job(new_uuid(), JobWish(hang=True)))
        await house.until(native_id, JobState.RUNNING)
        with pytest.raises(Unavailable):
            await house.site.connect(native_id, 9)
        await house.site.cancel(native_id)
        await house.end(native_id)

    async def test_carries_bytes_both_ways_when_a_port_is_open(self, house: SiteHouse) -> None:
        """A stream of raw bytes."""
        native_id = await house.site.submit(house.job(new_uuid(), JobWish(echo_port=8080)))
        await house.until(native_id, JobState.RUNNING)

        streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def opened() -> bool:
            try:
                streams.append(await house.site.connect(native_id, 8080))
            except Unavailable:
                return False
            return True

        await wait_for(opened, timeout_s=house.patience_s, what="port 8080")
        reader, writer = streams[0]
        writer.write(b"round\0trip\xff")
        await writer.drain()
        async with asyncio.timeout(5):
            assert await reader.readexactly(11) == b"round\0trip\xff"
        writer.close()
        await house.site.cancel(native_id)
        await house.end(native_id)

    async def test_says_keeper_lost_when_the_keeper_was_killed(self, house: SiteHouse) -> None:
        """The job is proved gone first, then it is told."""
        if house.lose_keeper is None:
            pytest.skip("this back end offers no way to kill a keeper")
        native_id = await house.site.submit(house.job(new_uuid(), JobWish(hang=True)))
        await house.until(native_id, JobState.RUNNING)
        await house.lose_keeper(native_id)
        status = await house.end(native_id)
        assert (status.state, status.reason) == (JobState.FAILED, "KeeperLost")

    async def test_logs_hold_the_output_when_declared(self, house: SiteHouse) -> None:
        """Capability ``logs``."""
        site = _with(house, LOGS, LogSite)
        wish = JobWish(output=b"one\ntwo\nthree\n")
        native_id = await house.site.submit(house.job(new_uuid(), wish))
        await house.end(native_id)
        lines = b"".join([line async for line in site.logs(native_id, LogQuery("main"))])
        assert lines == b"one\ntwo\nthree\n"
        query = LogQuery("main", tail_lines=1)
        assert b"".join([line async for line in site.logs(native_id, query)]) == b"three\n"

    async def test_logs_end_with_the_container_when_followed(self, house: SiteHouse) -> None:
        """Following stops by itself."""
        site = _with(house, LOGS, LogSite)
        wish = JobWish(output=b"begin\n", hang=True)
        native_id = await house.site.submit(house.job(new_uuid(), wish))
        await house.until(native_id, JobState.RUNNING)
        seen: list[bytes] = []

        async def follow() -> None:
            pieces = site.logs(native_id, LogQuery("main"), follow=True)
            async for piece in pieces:
                seen.append(piece)  # noqa: PERF401 - read while it grows

        reading = asyncio.create_task(follow())
        await wait_for(lambda: b"begin\n" in b"".join(seen), timeout_s=house.patience_s)
        await house.site.cancel(native_id)
        async with asyncio.timeout(house.patience_s):
            await reading

    async def test_logs_are_refused_when_the_container_is_unknown(self, house: SiteHouse) -> None:
        """Names the container."""
        site = _with(house, LOGS, LogSite)
        native_id = await house.site.submit(house.job(new_uuid(), JobWish()))
        await house.end(native_id)
        with pytest.raises(NotFound):
            [line async for line in site.logs(native_id, LogQuery("other"))]

    async def test_stats_are_told_when_declared(self, house: SiteHouse) -> None:
        """Capability ``stats``: figures stay after the end."""
        site = _with(house, STATS, StatsSite)
        native_id = await house.site.submit(house.job(new_uuid(), JobWish()))
        await house.end(native_id)
        figures = await site.stats(native_id)
        assert figures is not None
        assert figures.wall_time_s >= 0

    async def test_changes_are_told_when_declared(self, house: SiteHouse) -> None:
        """Capability ``changes``: from queued to the end, nobody has to ask."""
        site = _with(house, CHANGES, ChangeSite)
        told: list[str] = []

        async def listen() -> None:
            async for native_id in site.changes():
                told.append(native_id)  # noqa: PERF401 - read while it grows

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        native_id = await house.site.submit(house.job(new_uuid(), JobWish()))
        await house.end(native_id)
        await wait_for(lambda: native_id in told, what="a change told")
        listening.cancel()

    def test_its_capabilities_are_known_words(self, house: SiteHouse) -> None:
        """Others would never be looked at."""
        assert house.site.capabilities <= CAPABILITIES

    async def test_a_command_has_its_streams_and_its_code_when_declared(
        self, house: SiteHouse
    ) -> None:
        """Capability ``exec``: three streams, the end of input, the exit code."""
        site, native_id = await _joinable(house)
        script = ("sh", "-c", "cat; echo oops >&2; exit 3")
        session = await site.exec(native_id, "main", script, Streams(stdin=True))
        await session.send(bytes([channels.STDIN]) + b"in\0\xff")
        await session.send(bytes([channels.CLOSE, channels.STDIN]))
        heard = await hear(session, house.patience_s)
        assert (heard.out, heard.err, heard.code) == (b"in\0\xff", b"oops\n", 3)
        await _over(house, native_id)

    async def test_commands_run_side_by_side_when_declared(self, house: SiteHouse) -> None:
        """Each has its own streams."""
        site, native_id = await _joinable(house)
        sessions = [
            await site.exec(native_id, "main", ("sh", "-c", f"echo {word}"), Streams())
            for word in ("one", "two", "three")
        ]
        heard = [await hear(session, house.patience_s) for session in sessions]
        assert [one.out for one in heard] == [b"one\n", b"two\n", b"three\n"]
        await _over(house, native_id)

    async def test_a_command_cannot_run_when_its_container_is_not_there(
        self, house: SiteHouse
    ) -> None:
        """No job, no container, or it has ended."""
        site, native_id = await _joinable(house)
        with pytest.raises(NotFound):
            await site.exec("999999", "main", ("true",), Streams())
        with pytest.raises(NotFound):
            await site.exec(native_id, "other", ("true",), Streams())
        await _over(house, native_id)
        with pytest.raises(Unavailable):
            await site.exec(native_id, "main", ("true",), Streams())

    async def test_a_joined_container_is_followed_to_its_end_when_declared(
        self, house: SiteHouse
    ) -> None:
        """Leaving early changes nothing; its end is a success."""
        site, native_id = await _joinable(house)
        await (await site.attach(native_id, "main", Streams())).close()
        session = await site.attach(native_id, "main", Streams())
        assert (await house.site.status([native_id]))[native_id].state is JobState.RUNNING
        await _over(house, native_id)
        assert (await hear(session, house.patience_s)).status["status"] == "Success"

    async def test_input_is_refused_when_the_container_has_none(self, house: SiteHouse) -> None:
        """Never dropped in silence."""
        site, native_id = await _joinable(house)
        with pytest.raises(InvalidRequest, match="input"):
            await site.attach(native_id, "main", Streams(stdin=True))
        await _over(house, native_id)


@dataclass(frozen=True)
class Heard:
    """All that a session told."""

    out: bytes
    err: bytes
    status: dict[str, Any]

    @property
    def code(self) -> int:
        """The exit code of its Status."""
        if self.status["status"] == "Success":
            return 0
        return int(self.status["details"]["causes"][0]["message"])


async def hear(session: Session, patience_s: float = 30.0) -> Heard:
    """Read a session to its end, within bounds, and close it."""
    told: dict[int, bytes] = {}
    async with asyncio.timeout(patience_s):
        while (piece := await session.receive()) is not None:
            told[piece[0]] = told.get(piece[0], b"") + piece[1:]
    await session.close()
    status: dict[str, Any] = json.loads(told[channels.ERROR])
    return Heard(told.get(channels.STDOUT, b""), told.get(channels.STDERR, b""), status)


async def _joinable(house: SiteHouse) -> tuple[ExecSite, str]:
    site: ExecSite = _with(house, EXEC, ExecSite)
    native_id = await house.site.submit(house.job(new_uuid(), JobWish(hang=True)))

    async def joined() -> list[Session]:
        try:
            return [await site.exec(native_id, "main", ("true",), Streams())]
        except Unavailable:
            return []

    found = await wait_for(joined, timeout_s=house.patience_s, what="a running container")
    await hear(found[0], house.patience_s)
    return site, native_id


async def _over(house: SiteHouse, native_id: str) -> None:
    await house.site.cancel(native_id)
    await house.end(native_id)


def _with(house: SiteHouse, capability: str, _kind: type) -> Any:
    if capability not in house.site.capabilities:
        pytest.skip(f"this back end does not declare {capability}")
    return cast("Any", house.site)
