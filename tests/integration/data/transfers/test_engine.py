"""Jobs through queue, durable work and ledger, on SQLite and PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from twinfra.core.bus import Outbox
from twinfra.core.errors import Conflict, InsufficientScope, InvalidRequest
from twinfra.data.transfers.model.states import FileState, JobState
from twinfra.data.transfers.store import FILES, OUTBOX, USAGE
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for

SOURCE = "https://localhost:7001/dav/in"
OTHER = "https://localhost:7003/dav/in"
DEST = "https://localhost:7002/dav/out"


async def test_a_file_arrives_and_each_thing_is_told_once(world, storage):
    async with world.running():
        job_id = await world.submit("a", metadata={"request_id": "r1"}, job_metadata={"x": 1})
        job, files = await world.ended(job_id)
        await wait_for(lambda: world.bus.of("finished"))
    assert (job.state, files[0].state, files[0].reason) == ("FINISHED", "FINISHED", None)
    assert storage.files[f"{DEST}/a"] == storage.files[f"{SOURCE}/a"]
    assert [len(world.bus.of(kind)) for kind in ("submitted", "active", "finished", "failed")] == [
        1, 1, 1, 0,
    ]  # fmt: skip
    told = world.bus.of("finished")[0]
    assert told.group == "climate"
    assert told.data["file_metadata"] == {"request_id": "r1"}
    assert told.data["job_metadata"] == {"x": 1}
    assert (told.data["bytes"], told.data["total_bytes"]) == (7000, 7000)
    assert (told.data["source_site"], told.data["dest_site"]) == ("edge-c", "hpc-b")
    assert told.data["job_state"] == "FINISHED"
    assert world.bus.of("progress")[0].data["bytes"] == 3500


async def test_tokens_are_forgotten_when_a_file_is_settled(world, database):
    async with world.running():
        await world.ended(await world.submit("a"))
    async with database.read() as connection:
        row = (await connection.execute(select(FILES))).one()
    assert (row.source_token, row.dest_token) == (None, None)


async def test_a_passing_fault_is_tried_again_and_kept_as_a_try(world, storage):
    storage.failures = ["Connection timed out", "no performance marker for 60 s"]
    async with world.running():
        job_id = await world.submit("a", retry=3)
        job, files = await world.ended(job_id)
        tries = await world.jobs.attempts(job, files[0].file_id)
    assert job.state is JobState.FINISHED
    assert [each.reason for each in tries] == [
        "TRANSFER [110] COPY Connection timed out",
        "TRANSFER [110] COPY no performance marker for 60 s",
    ]


async def test_retries_end_at_the_bound_of_the_job(world, storage):
    storage.failures = ["Connection timed out"] * 9
    async with world.running():
        job, files = await world.ended(await world.submit("a", retry=2))
    assert (job.state, files[0].attempt, len(storage.copies)) == (JobState.FAILED, 3, 3)
    assert "1 of 1 files did not arrive: TRANSFER [110]" in job.reason


@pytest.mark.parametrize(
    "text", ["404 Not Found: no such file", "Remote side failed with status code 403", "no space"]
)
async def test_a_fault_that_stays_is_not_tried_again(world, storage, text):
    storage.failures = [text]
    async with world.running():
        job, _ = await world.ended(await world.submit("a", retry=5))
    assert (job.state, len(storage.copies)) == (JobState.FAILED, 1)


async def test_an_absent_source_fails_before_anything_is_copied(world, storage):
    async with world.running():
        job, files = await world.ended(await world.submit("nothing"))
    assert job.state is JobState.FAILED
    assert files[0].reason == "SOURCE [2] CHECK No such file or directory"
    assert storage.copies == []


async def test_a_destination_that_exists_is_left_alone_without_overwrite(world, storage):
    storage.files[f"{DEST}/a"] = b"old"
    async with world.running():
        _, files = await world.ended(await world.submit("a", retry=3))
    sentence = "Destination file exists and overwrite is not enabled"
    assert files[0].reason == f"DESTINATION [17] CHECK {sentence}"
    assert storage.files[f"{DEST}/a"] == b"old"
    assert storage.copies == []


async def test_a_destination_that_exists_is_replaced_with_overwrite(world, storage):
    storage.files[f"{DEST}/a"] = b"old"
    async with world.running():
        job, _ = await world.ended(await world.submit("a", overwrite=True))
    assert job.state is JobState.FINISHED
    assert storage.files[f"{DEST}/a"] == storage.files[f"{SOURCE}/a"]


@pytest.mark.story("A corrupted source file: the transfer fails on the checksum, the bad copy is "
                   "removed, another source is tried")  # fmt: skip
async def test_the_next_source_is_tried_when_a_copy_is_not_what_it_should_be(world, storage):
    storage.files[f"{OTHER}/a"] = storage.files[f"{SOURCE}/a"]
    storage.spoil = {f"{SOURCE}/a"}
    async with world.running():
        job_id = await world.submit("a", sources=(SOURCE, OTHER), retry=5)
        job, files = await world.ended(job_id)
    assert (job.kind, job.state) == ("R", JobState.FINISHED)
    assert [file.state for file in files] == [FileState.FAILED, FileState.FINISHED]
    assert "checksums do not match" in files[0].reason
    assert storage.deleted == [f"{DEST}/a"]
    assert storage.copies == [f"{SOURCE}/a", f"{OTHER}/a"]
    assert storage.files[f"{DEST}/a"] == storage.files[f"{OTHER}/a"]
    assert not world.bus.of("failed")


async def test_no_bad_copy_stays_when_no_source_is_left(world, storage):
    storage.spoil = {f"{SOURCE}/a"}
    async with world.running():
        job, files = await world.ended(await world.submit("a"))
        await wait_for(lambda: world.bus.of("failed"))
    assert job.state is JobState.FAILED
    assert "checksums do not match: destination adler32 is" in files[0].reason
    assert f"{DEST}/a" not in storage.files
    assert "checksums do not match" in world.bus.of("failed")[0].data["reason"]


async def test_a_source_with_another_checksum_than_announced_is_not_copied(world, storage):
    from twinfra.data.transfers.model import parse_checksum

    async with world.running():
        job, files = await world.ended(
            await world.submit("a", checksum=parse_checksum("ADLER32:00000001"), retry=4)
        )
    assert job.state is JobState.FAILED
    assert files[0].reason.startswith("SOURCE [5] CHECKSUM checksums do not match")
    assert storage.copies == []


async def test_a_later_alternative_is_not_used_when_the_first_serves(world, storage):
    storage.files[f"{OTHER}/a"] = storage.files[f"{SOURCE}/a"]
    async with world.running():
        _, files = await world.ended(await world.submit("a", sources=(SOURCE, OTHER)))
    assert [file.state for file in files] == [FileState.FINISHED, FileState.NOT_USED]


async def test_a_job_of_which_a_part_arrives_is_dirty(world):
    async with world.running():
        job, files = await world.ended(await world.submit("a", "nothing", "b"))
    assert job.state is JobState.FINISHED_DIRTY
    assert [file.state.value for file in files] == ["FINISHED", "FAILED", "FINISHED"]


async def test_a_link_bears_no_more_copies_than_its_window(world, storage):
    names = [f"f{n}" for n in range(8)]
    storage.files |= {f"{SOURCE}/{name}": b"x" * 10 for name in names}
    world.settings = world.settings.model_copy(update={"link_min_active": 2, "link_max_active": 2})
    storage.hold = asyncio.Event()
    second = world.again()
    async with second.running():
        job_id = await second.submit(*names)
        await wait_for(lambda: storage.at_once == 2)
        storage.hold.set()
        job, _ = await second.ended(job_id)
    assert job.state is JobState.FINISHED
    assert storage.most_at_once == 2


async def test_higher_priority_goes_first_and_can_be_raised(world, storage):
    world.settings = world.settings.model_copy(update={"link_min_active": 1, "link_max_active": 1})
    for name in ("first", "low", "high", "raised"):
        storage.files[f"{SOURCE}/{name}"] = b"x"
    storage.hold = asyncio.Event()
    second = world.again()
    async with second.running():
        await second.submit("first")
        await storage.started.wait()
        low = await second.submit("low", priority=1)
        await second.submit("high", priority=4)
        raised = await second.submit("raised", priority=2)
        job, _ = await second.job(raised)
        await second.jobs.set_priority(second.person(), job, 5)
        storage.hold.set()
        await second.ended(low)
    assert [url.rpartition("/")[2] for url in storage.copies] == ["first", "raised", "high", "low"]


async def test_cancelling_interrupts_the_copy_and_leaves_nothing(world, storage):
    storage.hold = asyncio.Event()
    async with world.running():
        job_id = await world.submit("a", "b")
        await storage.started.wait()
        job, _ = await world.job(job_id)
        left, files = await world.jobs.cancel(world.person(), job)
        assert left.state is JobState.CANCELLED
        assert {file.state for file in files} == {FileState.CANCELLED}
        await wait_for(lambda: not storage.running)
        await wait_for(lambda: f"{DEST}/a" in storage.deleted)

        async def tokens_gone():
            return all(file.dest_token is None for file in (await world.job(job_id))[1])

        await wait_for(tokens_gone)
    assert f"{DEST}/a" not in storage.files
    assert "Transfer canceled by the user" in files[0].reason


async def test_cancelling_what_has_ended_changes_nothing(world, storage):
    async with world.running():
        job, _ = await world.ended(await world.submit("a"))
        left, files = await world.jobs.cancel(world.person(), job)
    assert (left.state, files[0].state) == (JobState.FINISHED, FileState.FINISHED)
    assert f"{DEST}/a" in storage.files


async def test_a_copy_cut_by_a_crash_is_made_again_once(world, storage):
    storage.hold = asyncio.Event()
    async with world.running():
        job_id = await world.submit("a")
        await storage.started.wait()
    assert f"{DEST}/a" not in storage.files
    storage.hold = None
    second = world.again()
    async with second.running():
        job, files = await second.ended(job_id)
        await wait_for(lambda: world.bus.of("finished"))
    assert (job.state, files[0].attempt) == (JobState.FINISHED, 1)
    assert len(storage.copies) == 2
    assert len(world.bus.of("active")) == len(world.bus.of("finished")) == 1


async def test_a_copy_that_was_whole_before_the_crash_is_taken_as_it_is(world, storage):
    storage.hold = asyncio.Event()
    async with world.running():
        job_id = await world.submit("a")
        await storage.started.wait()
    storage.files[f"{DEST}/a"] = storage.files[f"{SOURCE}/a"]
    second = world.again()
    async with second.running():
        job, _ = await second.ended(job_id)
    assert job.state is JobState.FINISHED
    assert len(storage.copies) == 1


async def test_what_a_failed_try_completed_unseen_is_taken_by_the_next(world, storage):
    storage.failures = ["connection reset"]
    storage.hold = asyncio.Event()

    async def lost_answer(order, progress):
        storage.copies.append(order.source_url)
        storage.files[order.dest_url] = storage.files[order.source_url]
        await type(storage).copy(replace_failures(storage), order, progress)

    def replace_failures(fake):
        return replace(fake, failures=["connection reset"], copies=[])

    storage.copy = lost_answer
    async with world.running():
        job, files = await world.ended(await world.submit("a"))
    assert job.state is JobState.FINISHED
    assert (len(storage.copies), files[0].attempt) == (1, 2)


async def test_the_same_sid_is_a_conflict_and_gives_one_job(world):
    await world.submit("a", sid="request-1")
    with pytest.raises(Conflict, match="was used before"):
        await world.submit("b", sid="request-1")


async def test_two_jobs_do_not_write_one_destination(world):
    await world.submit("a")
    with pytest.raises(Conflict, match="Duplicated file"):
        await world.submit("a")


async def test_a_storage_that_is_not_registered_is_refused(world):
    with pytest.raises(InvalidRequest, match="not a registered storage"):
        await world.submit("a", sources=("https://evil.test:1/x",))


async def test_others_may_look_in_the_group_but_only_owner_and_services_cancel(world):
    job_id = await world.submit("a")
    job, _ = await world.job(job_id)
    colleague, stranger = world.person("carol"), world.person("bob", ("hydrology",))
    assert (await world.jobs.job(colleague, job_id)).job_id == job_id
    with pytest.raises(InsufficientScope):
        await world.jobs.cancel(colleague, job)
    with pytest.raises(InsufficientScope):
        await world.jobs.job(stranger, job_id)
    robot = world.person("service:datasets", (), is_service=True, primary_group=None)
    left, _ = await world.jobs.cancel(robot, job)
    assert left.state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("who", "metadata", "expected"),
    [
        ({}, {"deployment": "d1", "person": {"iss": "x", "sub": "bob"}, "group": "hydrology"},
         ("alice", "climate", "d1")),
        ({"actor": "service:datasets"}, {"deployment": "d1", "group": "ocean"},
         ("alice", "ocean", "d1")),
        ({"sub": "service:datasets", "groups": (), "is_service": True, "primary_group": None},
         {"person": {"iss": "i", "sub": "alice"}, "group": "climate"}, ("alice", "climate", None)),
    ],
)  # fmt: skip
async def test_usage_names_who_moved_how_much_for_whom(
    world, storage, database, who, metadata, expected
):
    storage.failures = ["connection reset"]
    async with world.running():
        job_id = await world.submit("a", "b", who=world.person(**who), job_metadata=metadata)
        await world.ended(job_id)
    async with database.read() as connection:
        records = [row.record for row in await connection.execute(select(USAGE))]
    assert len(records) == 1
    record = records[0]
    assert (record["person"]["sub"], record["group"], record.get("deployment")) == expected
    assert (record["size_bytes"], record["file_count"]) == (7500, 2)
    assert (record["source_site"], record["dest_site"], record["site"]) == (
        "edge-c", "hpc-b", "hpc-b",
    )  # fmt: skip
    from twinfra.accounting.client import from_json

    assert from_json(record).size_bytes == 7500


async def test_a_file_that_waits_too_long_fails(world, storage):
    clock = VirtualClock()
    world.clock = clock
    second = world.again()
    job_id = await second.submit("a", max_in_queue_s=60)
    await clock.advance(3600)
    second.settings = second.settings.model_copy(update={"max_active": 0})
    third = second.again()
    await third.queue._tidy()
    job, files = await third.job(job_id)
    assert job.state is JobState.FAILED
    assert "waited longer" in files[0].reason


async def test_ended_jobs_are_forgotten_after_their_time(world):
    clock = VirtualClock()
    world.clock = clock
    second = world.again()
    job_id = await second.submit("a")
    job, _ = await second.job(job_id)
    await second.jobs.cancel(second.person(), job)
    await clock.advance(timedelta(days=8).total_seconds())
    await second.queue._tidy()
    async with second.store.read() as unit:
        assert await unit.jobs([job_id]) == []
        assert await unit.files([job_id]) == []


async def test_events_wait_for_a_bus_that_is_away(world):
    from twinfra.core.errors import Unavailable

    class DeadBus:
        async def publish(self, event):
            raise Unavailable("away")

    world.outbox = Outbox(world.database, OUTBOX, DeadBus())
    async with world.running():
        await world.ended(await world.submit("a"))
    second = world.again()
    async with second.running():
        await wait_for(lambda: second.bus.of("finished"))
