"""Update and removal: what is kept, what is made anew, what is undone, in which order."""

import pytest

from twinfra.core.errors import Conflict, InsufficientScope, InvalidRequest, NotFound
from twinfra.orchestration.deployments.model.records import Wishes
from twinfra.testkit.orchestra import a_person


@pytest.fixture
async def standing(world, alice, templates):
    world.data.known |= {"climate:model"}
    world.ranking.sites = ["cloud-a"]
    nodes = (templates["predict"], templates["train"])
    made = await world.deployments.create(alice, templates["request"](*nodes))
    await world.play()
    (uid,) = world.driver.site("cloud-a").pods
    world.driver.finish(uid, 0)
    await world.play(25)
    return made.deployment.id


async def status(world, deployment):
    async with world.store.view() as view:
        found = await view.deployment(deployment)
    return found.status.value


def pods(world, site="cloud-a"):
    return {pod.workload.node: uid for uid, pod in world.driver.site(site).pods.items()}


async def test_nodes_that_did_not_change_stay_when_updated(world, standing, alice, templates):
    before = pods(world)
    changed = templates["request"](templates["predict"], templates["train"], templates["update"])
    await world.deployments.update(alice, standing, changed)
    await world.play(5)
    now = pods(world)
    assert {now[name] for name in before} == set(before.values())
    world.driver.finish(now["update"], 0)
    await world.play(25)
    assert await status(world, standing) == "UPDATE_COMPLETE"


async def test_service_is_rolled_when_its_part_of_the_template_changed(
    world, standing, alice, templates
):
    before = pods(world)
    newer = templates["predict"].replace("climate:1", "climate:2")
    await world.deployments.update(alice, standing, templates["request"](newer, templates["train"]))
    await world.play(10)
    assert await status(world, standing) == "UPDATE_COMPLETE"
    now = pods(world)
    assert now["train"] == before["train"]
    assert now["predict"] != before["predict"]
    assert world.driver.pod(now["predict"]).workload.image == "climate:2"


async def test_node_is_taken_away_when_the_template_no_longer_has_it(
    world, standing, alice, templates
):
    await world.deployments.update(alice, standing, templates["request"](templates["train"]))
    await world.play(20)
    assert await status(world, standing) == "UPDATE_COMPLETE"
    assert set(pods(world)) == {"train"}
    async with world.store.view() as view:
        assert [node.name for node in await view.nodes(standing)] == ["train"]


async def test_old_service_goes_on_when_the_update_fails(world, standing, alice, templates):
    before = pods(world)
    world.driver.site("cloud-a").refuses = "no room"
    newer = templates["predict"].replace("climate:1", "climate:2")
    await world.deployments.update(alice, standing, templates["request"](newer, templates["train"]))
    await world.play(60)
    assert await status(world, standing) == "UPDATE_FAILED"
    assert pods(world) == before
    world.driver.site("cloud-a").refuses = None
    await world.deployments.update(alice, standing, templates["request"](newer, templates["train"]))
    await world.play(20)
    assert await status(world, standing) == "UPDATE_COMPLETE"


async def test_everything_stays_when_the_new_template_is_wrong(world, standing, alice, templates):
    with pytest.raises(InvalidRequest):
        await world.deployments.update(
            alice, standing, templates["request"]("    x: {type: nonsense}\n")
        )
    assert await status(world, standing) == "CREATE_COMPLETE"


async def test_update_is_refused_when_something_is_under_way(world, alice, templates):
    made = await world.deployments.create(alice, templates["request"](templates["train"]))
    with pytest.raises(Conflict) as caught:
        await world.deployments.update(
            alice, made.deployment.id, templates["request"](templates["train"])
        )
    assert caught.value.retry_after_s == 0


async def test_update_is_refused_when_it_is_of_jobs_only(world, alice, templates):
    made = await world.deployments.create(alice, templates["request"](templates["train"]))
    await world.play()
    world.driver.finish(next(iter(world.driver.site("hpc-b").pods)), 0)
    await world.play(20)
    with pytest.raises(InvalidRequest, match="jobs only"):
        await world.deployments.update(
            alice, made.deployment.id, templates["request"](templates["train"])
        )


async def test_nothing_is_left_when_it_is_removed(world, standing, alice):
    await world.deployments.delete(alice, standing)
    await world.play(30)
    assert await status(world, standing) == "DELETE_COMPLETE"
    assert world.driver.site("cloud-a").pods == {}
    assert world.data.rules == {}
    assert world.permits.revoked == ["token-of-alice"]


async def test_nodes_go_in_reverse_order_when_removed(world, standing, alice):
    now = pods(world)
    world.driver.calls.clear()
    await world.deployments.delete(alice, standing)
    await world.play(30)
    deleted = [uid for what, uid in world.driver.calls if what == "delete"]
    assert deleted == [now["predict"], now["train"]]


async def test_running_job_is_stopped_when_removed_in_mid_creation(world, alice, templates):
    made = await world.deployments.create(alice, templates["request"](templates["train"]))
    await world.play()
    assert len(world.driver.site("hpc-b").pods) == 1
    await world.deployments.delete(alice, made.deployment.id)
    await world.play(10)
    assert await status(world, made.deployment.id) == "DELETE_COMPLETE"
    assert world.driver.site("hpc-b").pods == {}
    with pytest.raises(Conflict):
        await world.deployments.delete(alice, made.deployment.id)


async def test_removal_goes_on_when_the_site_returns(world, standing, alice):
    world.driver.site("cloud-a").away = True
    await world.deployments.delete(alice, standing)
    await world.play(300)
    assert await status(world, standing) == "DELETE_IN_PROGRESS"
    world.driver.site("cloud-a").away = False
    await world.play(150)
    assert await status(world, standing) == "DELETE_COMPLETE"
    assert world.driver.site("cloud-a").pods == {}


async def test_forced_removal_names_what_is_left_and_cleans_it_later(world, standing, alice):
    left = pods(world)
    world.driver.site("cloud-a").away = True
    await world.deployments.delete(alice, standing)
    await world.play(30)
    await world.deployments.delete(alice, standing, force=True)
    await world.play(5)
    async with world.store.view() as view:
        found = await view.deployment(standing)
    assert found.status == "DELETE_COMPLETE"
    assert left["train"] in found.status_reason
    world.driver.site("cloud-a").away = False
    await world.play(150)
    assert world.driver.site("cloud-a").pods == {}


async def test_removal_can_be_given_up_and_begun_again(world, standing, alice):
    world.driver.site("cloud-a").away = True
    await world.deployments.delete(alice, standing)
    await world.play(30)
    await world.deployments.reset(alice, standing, "DELETE_FAILED")
    assert await status(world, standing) == "DELETE_FAILED"
    world.driver.site("cloud-a").away = False
    await world.deployments.delete(alice, standing)
    await world.play(150)
    assert await status(world, standing) == "DELETE_COMPLETE"


async def test_members_look_and_only_the_owner_changes(world, standing, alice, templates):
    member, stranger = a_person("carol"), a_person("bob", "hydrology")
    assert (await world.deployments.get(member, standing)).id == standing
    with pytest.raises(InsufficientScope):
        await world.deployments.delete(member, standing)
    with pytest.raises(NotFound, match=f"The deployment {standing} doesn't exist"):
        await world.deployments.get(stranger, standing)
    with pytest.raises(NotFound):
        await world.deployments.delete(stranger, standing)


async def test_deleted_one_is_forgotten_when_its_time_is_over(world, standing, alice):
    await world.deployments.delete(alice, standing)
    await world.play(30)
    await world.deployments.forget_deleted()
    assert (await world.deployments.get(alice, standing)).status == "DELETE_COMPLETE"
    await world.play(2 * 86_400)
    await world.deployments.forget_deleted()
    with pytest.raises(NotFound):
        await world.deployments.get(alice, standing)


async def test_each_status_is_told_in_order_when_the_receiver_stumbles(world, alice, templates):
    from twinfra.core.errors import Unavailable

    world.callbacks.trouble = [Unavailable("500"), Unavailable("500")]
    wishes = Wishes(callback="https://receiver.example/here")
    request = templates["request"](templates["train"], wishes=wishes)
    await world.deployments.create(alice, request)
    await world.play()
    world.driver.finish(next(iter(world.driver.site("hpc-b").pods)), 0)
    await world.play(60)
    told = [body["status"] for _, body in world.callbacks.sent]
    assert told == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]


async def test_work_goes_on_when_the_callback_is_refused(world, alice, templates):
    world.callbacks.trouble = [InvalidRequest("not a public address")]
    wishes = Wishes(callback="https://receiver.example/here")
    request = templates["request"](templates["train"], wishes=wishes)
    made = await world.deployments.create(alice, request)
    await world.play()
    world.driver.finish(next(iter(world.driver.site("hpc-b").pods)), 0)
    await world.play(60)
    assert await status(world, made.deployment.id) == "CREATE_COMPLETE"
    async with world.store.view() as view:
        history = await view.history(made.deployment.id)
    assert [e.body["reason"] for e in history if e.kind == "callback"] == [
        "refused: not a public address"
    ]
