"""Services of a deployment: they come up, are replaced without a gap, and come back when lost."""

import pytest

from twinfra.core.bus import Event
from twinfra.core.errors import Unavailable
from twinfra.orchestration.deployments.settings import DeploymentsSettings
from twinfra.testkit.orchestra import Orchestra


@pytest.fixture
def ready_world(world):
    """A world where the model is there and only the cloud runs services."""
    world.data.known |= {"climate:model"}
    world.data.versions["climate:model"] = "climate:model.v1"
    world.ranking.sites = ["cloud-a"]
    return world


async def serving(world, alice, templates, **changes):
    predict = templates["predict"]
    rest = changes.pop("rest", "")
    made = await world.deployments.create(alice, templates["request"](predict, rest=rest))
    await world.play(2)
    return made.deployment.id


async def facts(world, deployment):
    async with world.store.view() as view:
        found = await view.deployment(deployment)
        nodes = {node.name: node for node in await view.nodes(deployment)}
        runs = await view.runs(deployment)
    return found, nodes, runs


def version(number):
    return Event(
        type="org.twinfra.dataset.version-added",
        source="/datasets",
        id=f"event-{number}",
        group="climate",
        data={"scope": "climate", "name": "model", "version": number},
    )


async def test_service_is_active_when_it_is_ready(ready_world, alice, templates):
    deployment = await serving(ready_world, alice, templates)
    found, nodes, (run,) = await facts(ready_world, deployment)
    assert found.status == "CREATE_COMPLETE"
    assert nodes["predict"].active_run == run.id
    assert run.state == "SERVING"
    assert run.pins == {"climate:model": "climate:model.v1"}
    (pod,) = ready_world.driver.site("cloud-a").pods.values()
    assert (pod.workload.port, pod.workload.restart) == (8080, True)
    (asked,) = ready_world.ranking.asked
    assert "services" in asked["requirements"]["capabilities"]


@pytest.mark.parametrize(("wish", "same"), [("", True), ("        any_port: true\n", False)])
async def test_two_versions_listen_at_different_ports_when_any_will_do(
    ready_world, alice, templates, wish, same
):
    world = ready_world
    node = templates["predict"] + wish
    made = await world.deployments.create(alice, templates["request"](node))
    await world.play(2)
    world.data.versions["climate:model"] = "climate:model.v2"
    world.traffic.all_unready = True
    await world.hear(version(2))
    await world.play(3)
    pods = [pod.workload for pod in world.driver.site("cloud-a").pods.values()]
    assert len(pods) == 2, made
    assert [pod.env["PORT"] for pod in pods] == [str(pod.port) for pod in pods]
    assert (pods[0].port == pods[1].port) is same
    assert all((pod.port == 8080) is same for pod in pods)


async def test_output_is_the_services_address_when_the_template_asks(ready_world, alice, templates):
    deployment = await serving(ready_world, alice, templates, rest=templates["outputs"])
    found, nodes, _ = await facts(ready_world, deployment)
    address = f"https://deployments.example/services/{nodes['predict'].id}/"
    assert found.outputs == {"address": address}


async def test_deployment_fails_when_the_service_never_gets_ready(ready_world, alice, templates):
    ready_world.traffic.all_unready = True
    deployment = await serving(ready_world, alice, templates)
    await ready_world.play(400)
    found, _, (run,) = await facts(ready_world, deployment)
    assert (found.status, run.state) == ("CREATE_FAILED", "FAILED")
    assert "not ready within 300 s" in found.status_reason
    assert ready_world.driver.site("cloud-a").pods == {}


async def test_new_version_takes_over_when_it_is_ready_and_the_old_one_is_drained(
    ready_world, alice, templates
):
    world = ready_world
    deployment = await serving(world, alice, templates)
    _, nodes, (old,) = await facts(world, deployment)
    (old_uid,) = world.driver.site("cloud-a").pods
    world.data.versions["climate:model"] = "climate:model.v2"
    world.traffic.all_unready = True
    await world.hear(version(2))
    await world.play(3)
    _, nodes, runs = await facts(world, deployment)
    assert nodes["predict"].active_run == old.id
    assert len(world.driver.site("cloud-a").pods) == 2
    world.traffic.all_unready = False
    world.traffic.under_way[old_uid] = 3
    await world.play(2)
    _, nodes, runs = await facts(world, deployment)
    assert [run.state for run in runs] == ["DRAINING", "SERVING"]
    assert nodes["predict"].active_run == runs[1].id
    assert runs[1].pins == {"climate:model": "climate:model.v2"}
    assert old_uid in world.driver.site("cloud-a").pods
    world.traffic.under_way.clear()
    await world.play(3)
    _, _, runs = await facts(world, deployment)
    assert [run.state for run in runs] == ["RETIRED", "SERVING"]
    assert old_uid in world.driver.site("cloud-a").gone
    assert old_uid in world.traffic.dropped
    (new,) = world.driver.site("cloud-a").pods.values()
    assert new.workload.inputs == ("climate:model.v2",)
    found, _, _ = await facts(world, deployment)
    assert found.status == "CREATE_COMPLETE"


async def test_draining_ends_within_its_bound_when_requests_do_not(ready_world, alice, templates):
    world = ready_world
    deployment = await serving(world, alice, templates)
    (old_uid,) = world.driver.site("cloud-a").pods
    world.traffic.under_way[old_uid] = 1
    await world.hear(version(2))
    await world.play(40)
    _, _, runs = await facts(world, deployment)
    assert runs[0].state == "RETIRED"
    assert "1 requests were cut off" in runs[0].reason


async def test_old_version_goes_on_when_the_new_one_fails(ready_world, alice, templates):
    world = ready_world
    deployment = await serving(world, alice, templates)
    (old_uid,) = world.driver.site("cloud-a").pods
    world.driver.site("cloud-a").refuses = "no room"
    await world.hear(version(2))
    await world.play(60)
    found, nodes, runs = await facts(world, deployment)
    assert [run.state for run in runs] == ["SERVING", "FAILED"]
    assert nodes["predict"].active_run == runs[0].id
    assert found.status == "CREATE_COMPLETE"
    assert list(world.driver.site("cloud-a").pods) == [old_uid]


async def test_service_rolls_once_when_the_event_comes_twice(ready_world, alice, templates):
    world = ready_world
    deployment = await serving(world, alice, templates)
    await world.hear(version(2))
    await world.hear(version(2))
    await world.play(10)
    _, _, runs = await facts(world, deployment)
    assert [run.number for run in runs] == [1, 2]


async def test_only_the_newest_is_brought_up_when_versions_come_quickly(
    ready_world, alice, templates
):
    world = ready_world
    deployment = await serving(world, alice, templates)
    world.traffic.all_unready = True
    for number in (2, 3, 4):
        await world.hear(version(number))
    await world.play(1)
    _, _, runs = await facts(world, deployment)
    assert [run.state for run in runs][2] == "CANCELLED"
    world.traffic.all_unready = False
    await world.play(30)
    _, nodes, runs = await facts(world, deployment)
    assert [run.state for run in runs] == ["RETIRED", "RETIRED", "CANCELLED", "SERVING"]
    assert nodes["predict"].active_run == runs[3].id


async def test_other_groups_versions_do_not_roll_it(ready_world, alice, templates):
    deployment = await serving(ready_world, alice, templates)
    from dataclasses import replace

    await ready_world.hear(replace(version(2), group="hydrology"))
    _, _, runs = await facts(ready_world, deployment)
    assert len(runs) == 1


@pytest.mark.story("Prediction service killed: it comes back, no event is lost")
async def test_new_pod_is_made_when_the_site_lost_the_old_one(ready_world, alice, templates):
    world = ready_world
    deployment = await serving(world, alice, templates)
    (uid,) = world.driver.site("cloud-a").pods
    world.driver.lose(uid)
    await world.play(30)
    found, nodes, (run,) = await facts(world, deployment)
    (again,) = world.driver.site("cloud-a").pods
    assert again != uid
    assert (run.state, run.cycle) == ("SERVING", 1)
    assert nodes["predict"].active_run == run.id
    assert found.status == "CREATE_COMPLETE"


async def test_service_stays_wanted_when_its_site_is_away_and_no_other_is_left(
    ready_world, alice, templates
):
    world = ready_world
    deployment = await serving(world, alice, templates)
    (uid,) = world.driver.site("cloud-a").pods
    world.driver.site("cloud-a").away = True
    await world.play(600)
    world.driver.site("cloud-a").away = False
    await world.play(10)
    _, _, (run,) = await facts(world, deployment)
    assert run.state == "SERVING"
    assert list(world.driver.site("cloud-a").pods) == [uid]


async def test_service_moves_when_its_site_stays_away_and_the_old_pod_goes_later(
    ready_world, alice, templates
):
    world = ready_world
    deployment = await serving(world, alice, templates)
    (uid,) = world.driver.site("cloud-a").pods
    world.ranking.sites = ["cloud-a", "cloud-d"]
    world.driver.site("cloud-a").away = True
    await world.play(50)
    assert world.driver.site("cloud-d").pods == {}
    world.ranking.sites = ["cloud-d", "cloud-a"]
    await world.play(60)
    assert len(world.driver.site("cloud-d").pods) == 1
    world.driver.site("cloud-a").away = False
    await world.play(120)
    assert uid in world.driver.site("cloud-a").gone
    _, nodes, (run,) = await facts(world, deployment)
    assert (run.state, nodes["predict"].active_run) == ("SERVING", run.id)


async def test_service_is_tried_for_ever_when_every_site_refuses_it_after_it_stood(
    ready_world, alice, templates
):
    world = ready_world
    deployment = await serving(world, alice, templates)
    (uid,) = world.driver.site("cloud-a").pods
    world.driver.site("cloud-a").refuses = "maintenance"
    world.driver.lose(uid)
    await world.play(300)
    _, _, (run,) = await facts(world, deployment)
    assert not run.state.final
    world.driver.site("cloud-a").refuses = None
    await world.play(70)
    _, _, (run,) = await facts(world, deployment)
    assert run.state == "SERVING"


async def test_rules_of_a_service_are_renewed_before_they_end(sqlite, alice, templates):
    world = await Orchestra.tuned(
        sqlite, "cloud-a", settings=DeploymentsSettings(rule_lifetime_s=600)
    )
    world.data.known |= {"climate:model"}
    await serving(world, alice, templates)
    await world.play(400)
    assert world.data.renewals == ["rule-1"]


async def test_restarts_by_the_site_are_counted(ready_world, alice, templates):
    world = ready_world
    deployment = await serving(world, alice, templates)
    (uid,) = world.driver.site("cloud-a").pods
    world.driver.change(uid, restarts=2)
    await world.play(20)
    async with world.store.view() as view:
        (attempt,) = await view.attempts(deployment=deployment)
    assert attempt.restarts == 2


async def test_deployment_waits_when_notifications_are_away(ready_world, alice, templates):
    world = ready_world
    world.webhooks.away = True
    nodes = (templates["predict"], templates["update"])
    request = templates["request"](*nodes, rest=templates["policies"])
    made = await world.deployments.create(alice, request)
    await world.play(10)
    found, _, _ = await facts(world, made.deployment.id)
    assert found.status == "CREATE_IN_PROGRESS"
    world.webhooks.away = False
    await world.play(10)
    found, _, _ = await facts(world, made.deployment.id)
    assert found.status == "CREATE_COMPLETE"
    assert Unavailable.retryable
