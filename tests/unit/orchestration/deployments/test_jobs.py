"""A deployment of jobs: placed, staged, run, finished; and each way it can fail."""

from dataclasses import replace

import pytest

from twinfra.core.errors import Unavailable
from twinfra.orchestration.deployments.model.records import Wishes
from twinfra.orchestration.deployments.ports import RuleState


async def deployed(world, alice, templates, **changes):
    made = await world.deployments.create(
        alice, templates["request"](templates["train"], **changes)
    )
    await world.play()
    return made.deployment.id


async def status(world, deployment):
    async with world.store.view() as view:
        found = await view.deployment(deployment)
    return found.status.value, found.status_reason


async def attempts(world, deployment):
    async with world.store.view() as view:
        return await view.attempts(deployment=deployment)


def only_pod(world, site):
    (uid,) = world.driver.site(site).pods
    return uid


async def test_job_completes_when_its_container_ends_well(twice_world, alice, templates):
    world = twice_world
    deployment = await deployed(world, alice, templates)
    uid = only_pod(world, "hpc-b")
    pod = world.driver.pod(uid)
    assert pod.token == "token-of-alice at https://hpc-b.example"
    assert pod.workload.inputs == ("climate:scenarios",)
    assert pod.workload.outputs == ("climate:model",)
    assert world.data.kept == {("climate:scenarios", "HPC-B"): "rule-1"}
    assert (await status(world, deployment))[0] == "CREATE_IN_PROGRESS"
    world.driver.finish(uid, 0, "done\n")
    await world.play(20)
    assert await status(world, deployment) == ("CREATE_COMPLETE", "")
    (attempt,) = await attempts(world, deployment)
    assert (attempt.state, attempt.target.site, attempt.log_tail) == (
        "SUCCEEDED",
        "hpc-b",
        "done\n",
    )
    assert [uid for what, uid in world.driver.calls if what == "create"].count(uid) <= 2
    assert pod.starts == 1
    told = [e.data["status"] for e in world.out.events if e.data["node"] is None]
    assert told == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]


@pytest.mark.story(
    "The job exits 3: the deployment says `CREATE_FAILED` with exit code and the last log"
    " lines as reason"
)
async def test_reason_has_exit_code_and_last_lines_when_the_job_exits_three(
    world, alice, templates
):
    deployment = await deployed(world, alice, templates)
    world.driver.finish(only_pod(world, "hpc-b"), 3, "reading\nTraceback\nValueError: no year\n")
    await world.play(20)
    state, reason = await status(world, deployment)
    assert state == "CREATE_FAILED"
    assert reason.startswith("train: exit code 3: ")
    assert "ValueError: no year" in reason
    assert world.driver.site("cloud-a").pods == {}
    assert world.driver.site("hpc-b").pods == {}


async def test_job_is_begun_again_when_its_author_allows_retries(world, alice, templates):
    train = templates["train"].replace("image:", "max_retries: 1\n        image:")
    made = await world.deployments.create(alice, templates["request"](train))
    await world.play()
    world.driver.finish(only_pod(world, "hpc-b"), 1)
    await world.play(20)
    world.driver.finish(only_pod(world, "hpc-b"), 0)
    await world.play(20)
    assert (await status(world, made.deployment.id))[0] == "CREATE_COMPLETE"
    assert [a.number for a in await attempts(world, made.deployment.id)] == [1, 2]


@pytest.mark.story("Keeper killed too: a second, numbered, visible attempt, never two at once")
async def test_lost_job_is_a_second_numbered_attempt_when_its_keeper_was_killed(
    twice_world, alice, templates
):
    world = twice_world
    deployment = await deployed(world, alice, templates)
    first = only_pod(world, "hpc-b")
    world.driver.lose(first)
    await world.play(20)
    second = only_pod(world, "hpc-b")
    assert second != first
    assert first in world.driver.site("hpc-b").gone
    world.driver.finish(second, 0)
    await world.play(20)
    assert (await status(world, deployment))[0] == "CREATE_COMPLETE"
    tried = await attempts(world, deployment)
    assert [(a.number, a.failure) for a in tried] == [(1, "job_lost"), (2, None)]
    assert tried[0].gone


async def test_next_site_is_taken_when_the_first_refuses(twice_world, alice, templates):
    world = twice_world
    world.driver.site("hpc-b").refuses = "image climate:1 is not here"
    deployment = await deployed(world, alice, templates)
    await world.play(10)
    world.driver.finish(only_pod(world, "cloud-a"), 0)
    await world.play(20)
    assert (await status(world, deployment))[0] == "CREATE_COMPLETE"
    tried = await attempts(world, deployment)
    assert [(a.target.site, a.failure) for a in tried] == [
        ("hpc-b", "provider_rejected"),
        ("cloud-a", None),
    ]
    assert "image climate:1 is not here" in tried[0].reason


async def test_reason_names_all_sites_when_every_one_refuses(world, alice, templates):
    for site in ("hpc-b", "cloud-a"):
        world.driver.site(site).refuses = f"no room at {site}"
    deployment = await deployed(world, alice, templates)
    await world.play(60)
    state, reason = await status(world, deployment)
    assert state == "CREATE_FAILED"
    assert "no room at hpc-b" in reason
    assert "no room at cloud-a" in reason
    assert len(await attempts(world, deployment)) == 2


async def test_only_so_many_sites_are_tried_when_the_retries_are_bounded(world, alice, templates):
    world.driver.site("hpc-b").refuses = "no"
    deployment = await deployed(world, alice, templates, wishes=Wishes(max_providers_retry=1))
    await world.play(60)
    assert (await status(world, deployment))[0] == "CREATE_FAILED"
    assert len(await attempts(world, deployment)) == 1


async def test_next_site_gets_a_fresh_clock_when_the_provider_takes_too_long(
    world, alice, templates
):
    deployment = await deployed(world, alice, templates, wishes=Wishes(provider_timeout_mins=1))
    await world.play(59)
    assert len(await attempts(world, deployment)) == 1
    await world.play(16)
    first, second = await attempts(world, deployment)
    assert first.failure == "provider_timeout"
    assert 60 <= (first.ended_at - first.created_at).total_seconds() < 75
    assert (second.deadline_at - second.created_at).total_seconds() == 60
    assert world.driver.site("hpc-b").pods == {}


async def test_deployment_fails_when_its_own_time_is_over(world, alice, templates):
    deployment = await deployed(world, alice, templates, wishes=Wishes(timeout_mins=2))
    await world.play(150)
    state, reason = await status(world, deployment)
    assert state == "CREATE_FAILED"
    assert "time limit of 2 minutes" in reason
    assert world.driver.site("hpc-b").pods == {}


async def test_last_attempt_is_kept_when_that_was_asked_for(world, alice, templates):
    wishes = Wishes(keep_last_attempt=True)
    deployment = await deployed(world, alice, templates, wishes=wishes)
    uid = only_pod(world, "hpc-b")
    world.driver.finish(uid, 3)
    await world.play(20)
    (attempt,) = await attempts(world, deployment)
    assert attempt.kept
    assert uid in world.driver.site("hpc-b").pods
    await world.deployments.delete(alice, deployment)
    await world.play(20)
    assert world.driver.site("hpc-b").pods == {}
    assert (await status(world, deployment))[0] == "DELETE_COMPLETE"


async def test_data_is_waited_for_when_the_rule_replicates(world, alice, templates):
    world.data.first_state = "REPLICATING"
    deployment = await deployed(world, alice, templates)
    assert world.driver.site("hpc-b").pods == {}
    world.data.rules["rule-1"] = RuleState("OK")
    await world.reactions.rule(_event(rule_id="rule-1"))
    await world.play()
    assert len(world.driver.site("hpc-b").pods) == 1
    async with world.store.view() as view:
        kinds = [e.kind for e in await view.history(deployment)]
    assert "progress" in kinds


async def test_next_site_is_taken_when_the_data_is_stuck(world, alice, templates):
    world.data.bad_sites["HPC-B"] = "checksum mismatch at every source"
    deployment = await deployed(world, alice, templates)
    await world.play(10)
    assert len(world.driver.site("cloud-a").pods) == 1
    first = (await attempts(world, deployment))[0]
    assert first.failure == "data_stuck"
    assert "checksum mismatch at every source" in first.reason
    assert "rule-1" in world.data.released


async def test_reason_is_the_rules_when_no_site_is_left(world, alice, templates):
    world.data.bad_sites |= {"HPC-B": "no source", "CLOUD-A": "no source"}
    deployment = await deployed(world, alice, templates)
    await world.play(60)
    state, reason = await status(world, deployment)
    assert state == "CREATE_FAILED"
    assert "STUCK no source" in reason


async def test_site_is_asked_for_a_while_then_the_next_one_when_it_is_away(world, alice, templates):
    world.driver.site("hpc-b").away = True
    deployment = await deployed(world, alice, templates)
    await world.play(20)
    assert len(await attempts(world, deployment)) == 1
    await world.play(60)
    first, second = await attempts(world, deployment)
    assert (first.failure, second.target.site) == ("provider_unreachable", "cloud-a")
    world.driver.site("hpc-b").away = False
    await world.play(120)
    assert (await attempts(world, deployment))[0].gone


async def test_nothing_is_begun_anew_when_the_site_of_a_running_job_is_away(
    world, alice, templates
):
    deployment = await deployed(world, alice, templates)
    uid = only_pod(world, "hpc-b")
    world.driver.site("hpc-b").away = True
    await world.play(900)
    world.driver.site("hpc-b").away = False
    world.driver.finish(uid, 0)
    await world.play(20)
    assert (await status(world, deployment))[0] == "CREATE_COMPLETE"
    assert len(await attempts(world, deployment)) == 1


async def test_run_waits_when_ranking_is_away(world, alice, templates):
    world.ranking.away = Unavailable("ranking restarts")
    deployment = await deployed(world, alice, templates)
    await world.play(60)
    assert (await status(world, deployment))[0] == "CREATE_IN_PROGRESS"
    world.ranking.away = None
    await world.play(5)
    assert len(world.driver.site("hpc-b").pods) == 1


async def test_run_fails_with_the_cause_when_ranking_stays_away(world, alice, templates):
    world.ranking.away = Unavailable("ranking is broken")
    deployment = await deployed(world, alice, templates)
    await world.play(700)
    state, reason = await status(world, deployment)
    assert state == "CREATE_FAILED"
    assert "ranking is broken" in reason


async def test_reason_says_who_was_excluded_when_no_site_fits(sqlite, alice, templates):
    from twinfra.testkit.orchestra import Orchestra

    world = await Orchestra.tuned(sqlite)
    world.ranking.sites = []
    deployment = await deployed(world, alice, templates)
    state, reason = await status(world, deployment)
    assert state == "CREATE_FAILED"
    assert "no cloud provider meets the deployment requirements: edge-x: it is too small" in reason


async def test_run_waits_for_a_site_when_the_only_good_one_is_away_for_now(world, alice, templates):
    world.ranking.sites, world.ranking.excluded = [], "down"
    deployment = await deployed(world, alice, templates)
    await world.play(60)
    assert (await status(world, deployment))[0] == "CREATE_IN_PROGRESS"
    world.ranking.sites = ["hpc-b"]
    await world.reactions.site(_event(site="hpc-b"))
    await world.play()
    assert len(world.driver.site("hpc-b").pods) == 1


async def test_run_fails_when_the_only_good_site_stays_away(world, alice, templates):
    world.ranking.sites, world.ranking.excluded = [], "down"
    deployment = await deployed(world, alice, templates)
    await world.play(150)
    assert (await status(world, deployment))[0] == "CREATE_FAILED"


async def test_placement_is_kept_with_candidates_and_reasons(world, alice, templates):
    deployment = await deployed(world, alice, templates)
    async with world.store.view() as view:
        (placed,) = await view.placements(deployment)
    assert [c["site"] for c in placed.body["candidates"]] == ["hpc-b", "cloud-a"]
    assert placed.body["excluded"][0]["site"] == "edge-x"
    (asked,) = world.ranking.asked
    assert asked["inputs"] == ["climate:scenarios"]
    assert asked["requirements"]["cpu"] == 1.0
    assert asked["requirements"]["memory_bytes"] == 512 * 2**20


async def test_candidate_is_left_out_when_the_catalogue_forgot_it(world, alice, templates):
    world.ranking.sites = ["hpc-b", "cloud-a"]
    real = world.ranking.target

    async def target(site):
        if site == "hpc-b":
            world.ranking.sites.remove("hpc-b") if "hpc-b" in world.ranking.sites else None
        return await real(site)

    world.ranking.target = target
    await deployed(world, alice, templates)
    assert len(world.driver.site("cloud-a").pods) == 1


@pytest.mark.parametrize("twice", [False, True])
async def test_later_job_begins_when_the_one_before_is_ready(sqlite, alice, templates, twice):
    from twinfra.testkit.orchestra import Orchestra

    world = await Orchestra.tuned(sqlite, twice=twice)
    second = templates["train"].replace("train:", "check:").replace(
        'inputs: ["climate:scenarios"]', 'inputs: ["climate:model"]'
    ).replace('outputs: ["climate:model"]', "outputs: []")  # fmt: skip
    made = await world.deployments.create(alice, templates["request"](second, templates["train"]))
    await world.play()
    uid = only_pod(world, "hpc-b")
    assert world.driver.pod(uid).workload.node == "train"
    world.data.known.add("climate:model")
    world.data.versions["climate:model"] = "climate:model.v1"
    world.driver.finish(uid, 0)
    await world.play(20)
    (check,) = [p for p in world.driver.site("hpc-b").pods.values() if p.workload.node == "check"]
    assert check.workload.inputs == ("climate:model.v1",)
    assert check.workload.mounts == {"climate:model.v1": "/data/climate/model"}
    world.driver.finish(check.workload.uid, 0)
    await world.play(20)
    assert (await status(world, made.deployment.id))[0] == "CREATE_COMPLETE"


def _event(**data):
    from twinfra.core.bus import Event

    return replace(Event(type="org.twinfra.rule.ok", source="/datasets"), data=data)
