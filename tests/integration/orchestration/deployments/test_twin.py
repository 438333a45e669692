"""A small twin on a real federation: data moves, a job runs, a service serves and rolls, events
run jobs; and all of it goes on when processes are killed."""

import asyncio

import pytest

from twinfra.core.bus import Event
from twinfra.core.errors import InsufficientScope, NotFound
from twinfra.testkit.waiting import wait_for

# busybox answers each connection once, so each request is a tunnel of its own through both hops
CALLERS = 4
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TEMPLATE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    pause: {type: integer, default: 0}
    code: {type: integer, default: 0}
  node_templates:
    train:
      type: tosca.nodes.twinfra.Job
      properties:
        image: "busybox:1"
        command: [sh, -c]
        args:
          - concat:
            - "echo started; cat /data/climate/scenarios/*; sleep "
            - get_input: pause
            - "; cat /data/climate/scenarios/* > /outputs/climate/model/model.txt; exit "
            - get_input: code
        inputs: ["climate:scenarios"]
        outputs: ["climate:model"]
"""
SERVICE = """\
    predict:
      type: tosca.nodes.twinfra.Service
      properties:
        image: "busybox:1"
        command: [sh, -c, "cp -r /data/climate/model /tmp/www; exec httpd -f -p 8080 -h /tmp/www"]
        inputs: ["climate:model"]
        port: 8080
        readiness_path: /model.txt
        follow: ["climate:model"]
    update:
      type: tosca.nodes.twinfra.Job
      properties:
        image: "busybox:1"
        command: [sh, -c]
        args: ["echo $TWINFRA_EVENT; echo second > /outputs/climate/model/model.txt"]
        inputs: ["climate:model"]
        outputs: ["climate:model"]
  policies:
    - relearn:
        type: tosca.policies.twinfra.OnEvent
        targets: [update]
        properties:
          event: org.climate.relearn
          action: run
  outputs:
    url: {value: {get_attribute: [predict, url]}}
"""


async def settled(federation, uuid, timeout_s=120):
    return await asyncio.wait_for(federation.deployments().wait_settled(uuid), timeout_s)


@pytest.fixture
async def scenarios(federation):
    """Data at hpc-b."""
    await federation.put_dataset("scenarios", "hpc-b", a="warm\n", b="cold\n")


@pytest.mark.story("The model is a dataset version (`climate:model`, with its lineage)")
async def test_job_runs_where_its_data_is_and_its_output_is_a_dataset(federation, scenarios):
    client = federation.deployments()
    made = await client.create(TEMPLATE, userGroup="climate")
    found = await settled(federation, made["uuid"])
    assert found["status"] == "CREATE_COMPLETE", found["statusReason"]
    assert found["cloudProviderName"] == "hpc-b"
    (placed,) = await client.placement(made["uuid"])
    assert placed["chosen"] == "hpc-b"
    assert all(each["factors"] for each in placed["candidates"])
    assert "warm\ncold" in await client.log(made["uuid"])
    from twinfra.data.datasets.client import Did

    version = await federation.datasets().latest_version(Did("climate", "model"))
    assert str(version.did) == "climate:model.v1"
    meta = await federation.datasets().get_meta(version.did)
    assert meta["deployment"] == made["uuid"]
    with pytest.raises(NotFound):
        await federation.deployments("bob").get(made["uuid"])


@pytest.mark.story(
    "The job exits 3: the deployment says `CREATE_FAILED` with exit code and the last log"
    " lines as reason"
)
async def test_reason_has_code_and_last_lines_when_the_job_exits_three(federation, scenarios):
    made = await federation.deployments().create(TEMPLATE, {"code": 3})
    found = await settled(federation, made["uuid"])
    assert found["status"] == "CREATE_FAILED"
    assert "exit code 3" in found["statusReason"]
    assert "cold" in found["statusReason"]


@pytest.mark.story("a client at 50 requests/s through the switch sees no error")
async def test_twin_serves_relearns_and_rolls_without_an_error(federation, scenarios):
    client = federation.deployments()
    made = await client.create(TEMPLATE + SERVICE)
    found = await settled(federation, made["uuid"])
    assert found["status"] == "CREATE_COMPLETE", found["statusReason"]
    path = found["outputs"]["url"].removeprefix(federation.context.url("deployments"))
    http = federation.http("deployments")
    first = await http.request("GET", f"{path}model.txt")
    assert first.text() == "warm\ncold\n"
    with pytest.raises(InsufficientScope):
        await federation.http("deployments", "bob").request("GET", f"{path}model.txt")

    answers, stop = [], asyncio.Event()

    async def ask():
        while not stop.is_set():
            reply = await http.request("GET", f"{path}model.txt", expect=(200,))
            answers.append(reply.text())

    async def keep_asking():
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(ask())

    asking = asyncio.create_task(keep_asking())
    event = Event(type="org.climate.relearn", source="/test", group="climate")
    await federation.notifications().publish(event)
    await wait_for(lambda: asking.done() or "second\n" in answers, timeout_s=120, what="the roll")
    await wait_for(
        lambda: asking.done() or answers[-20:] == ["second\n"] * 20,
        timeout_s=60,
        what="only the new one",
    )
    stop.set()
    await asking
    assert set(answers) == {"warm\ncold\n", "second\n"}
    runs = await client.runs(made["uuid"])
    assert [(r["node"], r["number"], r["trigger"]) for r in runs] == [
        ("train", 1, "deploy"),
        ("predict", 1, "deploy"),
        ("update", 1, "event"),
        ("predict", 2, "follow"),
    ]
    assert runs[2]["event"]
    assert runs[3]["inputs"] == {"climate:model": "climate:model.v2"}

    await client.delete(made["uuid"])

    async def gone():
        return (await client.get(made["uuid"]))["status"] == "DELETE_COMPLETE"

    await wait_for(gone, timeout_s=90, what="the removal")
    assert all(each["gone"] for each in await client.attempts(made["uuid"]))


@pytest.mark.story("each job's own output shows one start")
async def test_job_goes_on_with_one_start_when_hub_and_site_are_killed(federation, scenarios):
    client = federation.deployments()
    made = await client.create(TEMPLATE, {"pause": 6})

    def started():
        return any("started" in text for text in federation.outputs("hpc-b").values())

    await wait_for(started, timeout_s=90, what="the job starts")
    federation.kill("hub", "site-hpc-b", "nats")
    await federation.start("nats", "hub", "site-hpc-b")
    found = await settled(federation, made["uuid"])
    assert found["status"] == "CREATE_COMPLETE", found["statusReason"]
    assert len(await client.attempts(made["uuid"])) == 1
    outputs = federation.outputs("hpc-b")
    assert [text.count("started") for text in outputs.values()] == [1]


@pytest.mark.story(
    "`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6, then"
    " `twinfra up` again: the twin finishes, keepers are adopted, nothing is lost"
)
async def test_service_is_adopted_and_answers_when_everything_was_killed(federation, scenarios):
    client = federation.deployments()
    made = await client.create(TEMPLATE + SERVICE)
    found = await settled(federation, made["uuid"])
    assert found["status"] == "CREATE_COMPLETE", found["statusReason"]
    before = {each["uid"] for each in await client.attempts(made["uuid"])}
    federation.kill("hub", "site-cloud-a", "site-hpc-b", "nats")
    await federation.start("nats", "hub", "site-cloud-a", "site-hpc-b")
    path = found["outputs"]["url"].removeprefix(federation.context.url("deployments"))
    http = federation.http("deployments")

    async def answers():
        reply = await http.request("GET", f"{path}model.txt", expect=(200, 503))
        return reply.status == 200

    await wait_for(answers, timeout_s=90, what="the service answers again")
    assert {each["uid"] for each in await client.attempts(made["uuid"])} == before
