"""What is refused at once, with nothing written and nothing begun."""

import pytest

from twinfra.core.errors import Conflict, InsufficientScope, InvalidRequest
from twinfra.orchestration.tosca.errors import TemplateErrors
from twinfra.testkit.orchestra import a_person


async def nothing_was_written(world):
    from twinfra.orchestration.deployments.store import Wanted

    async with world.store.view() as view:
        found, total = await view.deployments(Wanted(), offset=0, limit=5)
    return found == [] and total == 0 and world.engine.rows == {} and world.out.events == []


@pytest.mark.story(
    "A TOSCA template with an unknown type, a missing input, a cycle: refused at once, all"
    " errors with their lines"
)
async def test_all_faults_have_their_lines_when_the_template_is_wrong(world, alice, templates):
    train = templates["train"].replace("512 MiB", "512 bananas")
    broken = train + "    other:\n      type: tosca.nodes.Nonsense\n"
    with pytest.raises(TemplateErrors) as caught:
        await world.deployments.create(alice, templates["request"](broken))
    assert {problem.line for problem in caught.value.problems} == {12, 14}
    assert await nothing_was_written(world)


@pytest.mark.story("An input dataset that does not exist: refused before anything starts")
async def test_data_is_named_when_nobody_has_it(world, alice, templates):
    train = templates["train"].replace("climate:scenarios", "climate:nowhere")
    with pytest.raises(InvalidRequest, match="climate:nowhere") as caught:
        await world.deployments.create(alice, templates["request"](train))
    assert caught.value.errors[0]["line"] == 4
    assert await nothing_was_written(world)


async def test_data_may_come_from_another_node_of_the_template(world, alice, templates):
    nodes = (templates["predict"], templates["train"])
    await world.deployments.create(alice, templates["request"](*nodes))


async def test_group_is_refused_when_the_token_does_not_name_it(world, alice, templates):
    request = templates["request"](templates["train"], group="hydrology")
    with pytest.raises(InsufficientScope, match="hydrology"):
        await world.deployments.create(alice, request)
    assert await nothing_was_written(world)


async def test_group_is_asked_for_when_the_token_names_two(world, templates):
    person = a_person("dora", "climate", "hydrology")
    with pytest.raises(InsufficientScope, match="userGroup must be said"):
        await world.deployments.create(person, templates["request"](templates["train"]))
    for spelled in ("hydrology", "/hydrology"):
        request = templates["request"](templates["train"], group=spelled)
        made = await world.deployments.create(person, request)
        assert made.deployment.group == "hydrology"


async def test_node_is_refused_with_its_line_when_no_driver_makes_it(world, alice, templates):
    node = "    vm: {type: tosca.nodes.Compute}\n"
    with pytest.raises(TemplateErrors, match=r"line 4.*no driver here makes a tosca.nodes.Compute"):
        await world.deployments.create(alice, templates["request"](node))


async def test_policy_is_refused_when_it_delivers_to_a_job(world, alice, templates):
    policies = templates["policies"].replace("targets: [predict]", "targets: [update]")
    request = templates["request"](templates["update"], rest=policies)
    with pytest.raises(TemplateErrors, match="deliver wants a"):
        await world.deployments.create(alice, request)


async def test_policy_of_a_foreign_group_is_refused(world, alice, templates):
    policies = templates["policies"].replace("action: run", "action: run\n          group: bees")
    world.data.known.add("climate:model")
    nodes = (templates["predict"], templates["update"])
    with pytest.raises(InsufficientScope, match="bees"):
        await world.deployments.create(alice, templates["request"](*nodes, rest=policies))


async def test_same_key_gives_the_same_deployment_when_sent_again(world, alice, templates):
    request = templates["request"](templates["train"])
    first = await world.deployments.create(alice, request, repeat_key="k")
    again = await world.deployments.create(alice, request, repeat_key="k")
    assert again.deployment.id == first.deployment.id
    assert (first.replayed, again.replayed) == (False, True)
    other = await world.deployments.create(a_person("carol"), request, repeat_key="k")
    assert other.deployment.id != first.deployment.id
    with pytest.raises(Conflict):
        await world.deployments.create(
            alice, templates["request"](templates["train"], parameters={"a": 1}), repeat_key="k"
        )
