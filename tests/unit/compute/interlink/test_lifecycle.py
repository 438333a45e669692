"""A pod's life turned by hand: each step once or twice, neighbours that fail, on virtual time."""

from dataclasses import replace

import pytest

from twinfra.compute.interlink.model.status import PodPhase
from twinfra.compute.interlink.plugin.lifecycle import KIND, LAST_LINES_S
from twinfra.compute.sites.model import JobState
from twinfra.core.errors import InsufficientScope, InvalidRequest, NotFound, Unavailable


async def test_succeeds_when_the_job_does(life):
    uid = await life.create()
    assert (await life.report()).reason == "Priority"
    life.site.start(uid)
    await life.turn()
    assert (await life.report()).phase is PodPhase.RUNNING
    life.site.finish(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.containers[0].exit_code) == (PodPhase.SUCCEEDED, 0)
    assert len(life.site.jobs) == 1


async def test_nothing_is_told_when_nothing_changed(life):
    await life.clock.advance(0.123456)
    uid = await life.create()
    life.site.start(uid)
    await life.turn()
    told = await life.told()
    for _ in range(3):
        await life.turn()
    assert await life.told() == told


async def test_waits_for_data_and_asks_again_when_time_passes(life):
    life.inputs.missing = 3
    await life.create(inputs="climate:scenarios")
    report = await life.report()
    assert (report.reason, report.message) == ("WaitingForData", "1 of 4 files are at the site")
    assert life.site.jobs == {}
    assert set(life.inputs.wanted) == {("climate:scenarios.v7",)}
    life.inputs.told = "rule 4 is STUCK: no source"
    await life.turn(seconds=60)
    assert (await life.report()).message.endswith("at the site; rule 4 is STUCK: no source")
    life.inputs.missing = 0
    await life.turn(seconds=60)
    assert len(life.site.jobs) == 1


async def test_is_over_only_after_its_outputs_are_published(life):
    life.outputs.troubles = [Unavailable("the datasets service is away")] * 4
    uid = await life.create(inputs="climate:scenarios", outputs="climate:model")
    life.site.start(uid)
    life.site.finish(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.RUNNING, "PublishingOutputs")
    for _ in range(6):
        await life.turn(seconds=60)
    report = await life.report()
    assert report.phase is PodPhase.SUCCEEDED
    assert report.message == "registered climate:model.v1"
    assert life.outputs.meta == {
        "images": [life.images.resolve("any")],
        "inputs": ["climate:scenarios.v7"],
    }
    assert len(life.outputs.versions) == 1


async def test_no_end_is_told_while_its_last_processes_leave(life, monkeypatch):
    uid = await life.create(outputs="climate:model")
    life.site.start(uid)
    await life.turn()
    told = life.site.status

    async def leaving(native_ids):
        found = await told(native_ids)
        return {key: replace(each, state=JobState.RUNNING) for key, each in found.items()}

    monkeypatch.setattr(life.site, "status", leaving)
    life.site.finish(uid)
    await life.turn()
    assert (await life.report()).phase is PodPhase.RUNNING
    monkeypatch.setattr(life.site, "status", told)
    for _ in range(3):
        await life.turn(seconds=60)
    report = await life.report()
    assert (report.phase, report.message) == (PodPhase.SUCCEEDED, "registered climate:model.v1")


@pytest.mark.parametrize("error", [InsufficientScope("not yours"), InvalidRequest("nothing there")])
async def test_fails_when_its_outputs_are_refused(life, error):
    life.outputs.troubles = [error] * 4
    uid = await life.create(outputs="climate:model")
    life.site.start(uid)
    life.site.finish(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.FAILED, "OutputsFailed")
    assert (report.containers[0].exit_code, report.message) == (1, error.detail)


async def test_publishes_nothing_when_the_job_failed(life):
    uid = await life.create(outputs="climate:model")
    life.site.start(uid)
    life.site.finish(uid, 3)
    await life.turn()
    assert life.outputs.calls == 0
    assert (await life.report()).containers[0].exit_code == 3


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
async def test_is_tried_again_under_the_next_number_when_its_keeper_was_lost(life, policy):
    uid = await life.create(restart=policy)
    for attempt, name in ((1, uid), (2, f"{uid}.2")):
        life.site.start(name)
        await life.turn()
        assert (await life.report()).attempt == attempt
        life.site.lose(name)
        await life.turn()
    report = await life.report()
    assert (report.attempt, report.containers[0].restarts) == (3, 2)
    assert report.containers[0].last.reason == "KeeperLost"
    life.site.start(f"{uid}.3")
    life.site.lose(f"{uid}.3")
    await life.turn()
    assert (await life.report()).phase is PodPhase.FAILED
    assert sorted(set(life.site.submissions)) == [uid, f"{uid}.2", f"{uid}.3"]
    assert [phase for phase, _, _ in await life.told()].count("Failed") <= 2


async def test_fails_when_its_keeper_was_lost_and_it_never_restarts(life):
    uid = await life.create()
    life.site.start(uid)
    life.site.lose(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.FAILED, "KeeperLost")
    assert len(life.site.jobs) == 1


async def test_one_usage_record_an_attempt(life):
    uid = await life.create(restart="Always")
    life.site.start(uid)
    await life.clock.advance(10)
    life.site.lose(uid)
    await life.turn()
    life.site.start(f"{uid}.2")
    life.site.finish(f"{uid}.2")
    await life.turn()
    records = dict(await life.store.usage())
    assert sorted(records) == [f"job:hpc-b:{uid}", f"job:hpc-b:{uid}.2"]
    first = records[f"job:hpc-b:{uid}"]
    assert (first["wall_s"], first["cpu_s"], first["attempt"]) == (10, 5, 1)
    assert first["person"] == {"iss": "https://issuer.test", "sub": "alice"}


async def test_nothing_is_used_when_nothing_ran(life):
    await life.create()
    await life.site.cancel("1000")
    life.site.jobs["1000"].started_at = None
    await life.turn()
    assert await life.store.usage() == []


async def test_waits_without_end_when_the_batch_system_is_away(life):
    life.site.down = True
    await life.create()
    for _ in range(8):
        await life.turn(seconds=31)
    assert (await life.report()).phase is PodPhase.PENDING
    assert (await life.report()).message == "the fake batch system is down"
    life.site.down = False
    await life.turn(seconds=31)
    assert len(life.site.jobs) == 1


async def test_fails_when_its_image_is_gone(life):
    life.images.missing = True
    await life.create()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.FAILED, "ErrImagePull")
    assert report.message == "image python:3: no image python:3"


async def test_fails_when_an_input_is_gone(life):
    life.inputs.trouble = NotFound("there is no climate:scenarios")
    await life.create(inputs="climate:scenarios")
    assert (await life.report()).phase is PodPhase.FAILED


@pytest.mark.parametrize("moment", ["staging", "queued", "running", "over"])
async def test_is_forgotten_when_it_is_deleted(life, moment):
    if moment == "staging":
        life.inputs.missing = 1
    uid = await life.create(inputs="climate:scenarios")
    if moment in {"running", "over"}:
        life.site.start(uid)
        await life.turn()
    if moment == "over":
        life.site.finish(uid)
        await life.turn()
    await life.delete()
    await life.turn()
    await life.turn(seconds=LAST_LINES_S)
    assert await life.report() is None
    assert not (life.kit.jobs / uid).exists()
    assert life.engine.at(KIND) == {}
    assert uid in life.outputs.released
    phases = [phase for phase, _, _ in await life.told()]
    assert phases[-1] == ("Succeeded" if moment == "over" else "Failed")
    assert all(job.state.final for job in life.site.jobs.values())


async def test_the_last_lines_can_be_read_for_a_moment_when_it_is_deleted(life):
    uid = await life.create()
    life.site.start(uid)
    await life.turn()
    await life.delete()
    await life.turn()
    await life.turn()
    assert (life.kit.jobs / uid).exists()
    await life.turn(seconds=LAST_LINES_S)
    assert not (life.kit.jobs / uid).exists()


async def test_is_forgotten_by_itself_when_it_is_old(life):
    uid = await life.create()
    life.site.start(uid)
    life.site.finish(uid)
    await life.turn()
    await life.turn(seconds=life.kit.settings.keep_finished_s + 1)
    assert await life.report() is None


async def test_a_crash_of_ours_ends_the_pod_after_some_tries(life, monkeypatch):
    async def broken(*_):
        raise ZeroDivisionError

    life.inputs.stage = broken
    await life.create(inputs="climate:scenarios")
    for _ in range(10):
        await life.turn(seconds=60)
    assert (await life.report()).reason == "InternalError"


async def test_fresh_data_is_linked_into_a_running_service(life):
    uid = await life.create(restart="Always", inputs="climate:ensemble")
    life.site.start(uid)
    await life.turn()
    asked = life.inputs.asked
    await life.turn()
    assert life.inputs.asked == asked
    life.lifecycle.fresh_data.add(uid)
    await life.turn()
    assert life.inputs.asked > asked
