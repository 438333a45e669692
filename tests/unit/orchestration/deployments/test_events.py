"""Policies: events run jobs and reach services, once each, only of the own group."""

from dataclasses import replace

import pytest

from twinfra.core.bus import Event

CLOSED = Event(
    type="org.twinfra.dataset.closed",
    source="/datasets",
    id="closed-1",
    group="climate",
    data={"scope": "climate", "name": "ensemble"},
)


@pytest.fixture
async def standing(world, alice, templates):
    """A deployment with a service, and a job that waits for its event."""
    world.data.known |= {"climate:model"}
    nodes = (templates["predict"], templates["update"])
    request = templates["request"](*nodes, rest=templates["policies"])
    made = await world.deployments.create(alice, request)
    await world.play(3)
    return made.deployment.id


async def runs_of(world, deployment, node="update"):
    async with world.store.view() as view:
        return await view.runs(deployment, node)


async def status(world, deployment):
    async with world.store.view() as view:
        return (await view.deployment(deployment)).status


async def test_job_waits_when_a_policy_runs_it_by_event(world, standing):
    assert await runs_of(world, standing) == []
    assert await status(world, standing) == "CREATE_COMPLETE"


async def test_job_runs_with_the_event_when_it_comes(world, standing):
    await world.hear(CLOSED)
    (run,) = await runs_of(world, standing)
    assert (run.trigger, run.cause, run.number) == ("event", "closed-1", 1)
    (pod,) = [
        pod for pod in world.driver.site("hpc-b").pods.values() if pod.workload.node == "update"
    ]
    assert '"id":"closed-1"' in pod.workload.env["TWINFRA_EVENT"]
    world.driver.finish(pod.workload.uid, 0)
    await world.play(20)
    (run,) = await runs_of(world, standing)
    assert run.state == "SUCCEEDED"


async def test_each_event_is_one_run_when_it_is_delivered_twice(world, standing):
    await world.hear(CLOSED)
    await world.hear(CLOSED)
    await world.hear(replace(CLOSED, id="closed-2"))
    assert [run.cause for run in await runs_of(world, standing)] == ["closed-1", "closed-2"]


async def test_deployment_stands_when_a_run_by_event_fails(world, standing):
    await world.hear(CLOSED)
    (uid,) = [
        uid for uid, pod in world.driver.site("hpc-b").pods.items() if pod.workload.node == "update"
    ]
    world.driver.finish(uid, 5, "no members\n")
    await world.play(20)
    (run,) = await runs_of(world, standing)
    assert (run.state, run.exit_code) == ("FAILED", 5)
    assert "no members" in run.reason
    assert await status(world, standing) == "CREATE_COMPLETE"


@pytest.mark.parametrize(
    "changes",
    [
        {"group": "hydrology"},
        {"type": "org.twinfra.dataset.created"},
        {"data": {"scope": "climate", "name": "scenarios"}},
        {"data": None},
    ],
)
async def test_nothing_runs_when_the_event_is_another(world, standing, changes):
    await world.hear(replace(CLOSED, **changes))
    assert await runs_of(world, standing) == []


async def test_nothing_runs_when_the_deployment_is_gone(world, standing, alice):
    await world.deployments.delete(alice, standing)
    await world.hear(CLOSED)
    await world.play(30)
    assert await runs_of(world, standing) == []


async def test_service_gets_a_webhook_when_a_policy_delivers_to_it(world, standing):
    ((name, wishes),) = world.webhooks.made.items()
    async with world.store.view() as view:
        node = await view.node_named(standing, "predict")
    assert wishes["url"] == f"https://deployments.example/services/{node.id}/events"
    assert wishes["types"] == ("org.twinfra.dataset.file-added",)
    assert wishes["condition"] == {"dataset": "climate:ensemble"}
    assert wishes["group"] == "climate"
    assert standing in name


async def test_webhook_ends_when_the_deployment_does(world, standing, alice):
    await world.deployments.delete(alice, standing)
    await world.play(30)
    assert world.webhooks.made == {}
    assert await status(world, standing) == "DELETE_COMPLETE"


async def test_old_pods_go_when_there_are_many_runs_by_event(sqlite, alice, templates):
    from twinfra.orchestration.deployments.settings import DeploymentsSettings
    from twinfra.testkit.orchestra import Orchestra

    world = await Orchestra.tuned(sqlite, settings=DeploymentsSettings(kept_runs=2))
    world.data.known |= {"climate:model"}
    nodes = (templates["predict"], templates["update"])
    request = templates["request"](*nodes, rest=templates["policies"])
    made = await world.deployments.create(alice, request)
    await world.play(3)
    for number in range(4):
        await world.hear(replace(CLOSED, id=f"closed-{number}"))
        for uid, pod in list(world.driver.site("hpc-b").pods.items()):
            if pod.workload.node == "update" and not pod.seen.phase.final:
                world.driver.finish(uid, 0)
        await world.play(20)
    left = [p for p in world.driver.site("hpc-b").pods.values() if p.workload.node == "update"]
    assert len(left) == 2
    assert len(await runs_of(world, made.deployment.id)) == 4
