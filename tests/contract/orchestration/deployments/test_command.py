"""``twinfra deploy`` as a person runs it, against the API on a socket."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from twinfra.testkit.waiting import wait_for


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


class Commands:
    """Runs the command as alice, whose login is in the home."""

    def __init__(self, orchestrator, folder):
        self.world, self.folder = orchestrator.world, folder
        self.home = orchestrator.context.home.root
        login = {
            "issuer": orchestrator.issuer.url,
            "sub": "alice",
            "tokens": {},
            "refresh_token": orchestrator.token(),
        }
        (self.home / "login.json").write_text(json.dumps(login))

    async def start(self, *words, **environment):
        argv = [Path(sys.executable).with_name("twinfra"), *words]
        variables = {**os.environ, "TWINFRA_HOME": str(self.home), "COLUMNS": "200", **environment}
        return await asyncio.create_subprocess_exec(
            *argv, stdin=-1, stdout=-1, stderr=-1, env=variables
        )

    async def run(self, *words, stdin="", **environment):
        process = await self.start("deploy", *words, **environment)
        return await self.end(process, stdin)

    async def end(self, process, stdin=""):
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        return Done(process.returncode, out.decode(), err.decode())

    async def pod(self, site="hpc-b"):
        """Turn the work until a pod is at the site; return its id."""

        async def there():
            await self.world.play()
            return bool(self.world.driver.site(site).pods)

        await wait_for(there, timeout_s=60, what="a pod")
        (uid,) = self.world.driver.site(site).pods
        return uid


@pytest.fixture
def commands(orchestrator, tmp_path):
    return Commands(orchestrator, tmp_path)


@pytest.fixture
def twin(tmp_path, template):
    path = tmp_path / "twin.yaml"
    path.write_text(template)
    return str(path)


async def test_id_is_printed_and_values_reach_the_template(commands, twin, orchestrator, tmp_path):
    (tmp_path / "values.yaml").write_text("years: 3\nimage: other:1\n")
    words = (
        "--parameters",
        str(tmp_path / "values.yaml"),
        "-p",
        "image=1.10",
        "--group",
        "climate",
    )
    done = await commands.run("create", twin, *words)
    assert done.code == 0, done.err
    uuid = done.out.strip()
    async with commands.world.store.view() as view:
        made = await view.deployment(uuid)
    assert made.parameters == {"years": 3, "image": "1.10"}
    assert made.group == "climate"
    found = (await commands.run("list", "--json")).json()
    assert [each["uuid"] for each in found] == [uuid]
    assert uuid in (await commands.run("list", "--status", "CREATE_IN_PROGRESS")).out
    assert (await commands.run("list", "--status", "CREATE_FAILED", "--json")).json() == []
    assert (await commands.run("template", uuid)).out == await orchestrator.client().template(uuid)


@pytest.mark.story(
    "A TOSCA template with an unknown type, a missing input, a cycle: refused at once,"
    " all errors with their lines"
)
async def test_every_fault_is_printed_with_its_line_when_a_template_is_wrong(commands):
    text = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs: {needed: {type: string}}
  node_templates:
    a:
      type: tosca.nodes.Nonsense
    b:
      type: tosca.nodes.twinfra.Job
      properties: {image: x}
      requirements: [{dependency: c}]
    c:
      type: tosca.nodes.twinfra.Job
      properties: {image: x}
      requirements: [{dependency: b}]
"""
    done = await commands.run("create", "-", stdin=text)
    assert done.code == 2
    assert "line 6: topology_template.node_templates.a.type" in done.err
    assert "needed" in done.err
    assert "require each other: b > c > b" in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("  line ")]) >= 3
    assert "Traceback" not in done.err
    assert (await commands.run("list", "--json")).json() == []


@pytest.mark.story("An input dataset that does not exist: refused before anything starts")
async def test_missing_data_is_named_with_its_line(commands, template):
    text = template.replace("climate:scenarios", "climate:nowhere")
    done = await commands.run("create", "-", stdin=text)
    assert done.code == 2
    assert "climate:nowhere does not exist" in done.err
    assert "line 7: topology_template.node_templates.train" in done.err
    assert (await commands.run("list", "--json")).json() == []


@pytest.mark.story(
    "The job exits 3: the deployment says `CREATE_FAILED` with exit code and the last log lines"
    " as reason"
)
async def test_waiting_ends_with_one_and_the_reason_when_the_job_exits_three(commands, twin):
    process = await commands.start("deploy", "create", twin, "--wait")
    uid = await commands.pod()
    commands.world.driver.finish(uid, 3, "reading\nValueError: no year 2099\n")
    await commands.world.play(20)
    done = await commands.end(process)
    assert done.code == 1, done.err
    assert "CREATE_FAILED" in done.out
    assert "exit code 3" in done.out
    assert "ValueError: no year 2099" in done.out
    assert "train RUNNING hpc-b attempt 1" in done.err
    uuid = done.out.split()[0]
    logs = await commands.run("logs", uuid, "train")
    assert "ValueError: no year 2099" in logs.out


async def test_waiting_ends_with_zero_when_the_job_ends_well(commands, twin):
    process = await commands.start("deploy", "create", twin, "--wait", "--json")
    commands.world.driver.finish(await commands.pod(), 0)
    await commands.world.play(20)
    done = await commands.end(process)
    assert done.code == 0, done.err
    found = done.json()
    assert found["status"] == "CREATE_COMPLETE"
    assert (await commands.run("wait", found["uuid"], "--json")).json() == found
    shown = await commands.run("show", found["uuid"])
    assert shown.code == 0, shown.err
    assert "hpc-b *" in shown.out
    assert "it is too small" in shown.out
    whole = (await commands.run("show", found["uuid"], "--json")).json()
    assert [each["toscaNodeName"] for each in whole["resources"]] == ["train"]
    assert whole["placement"][0]["chosen"] == "hpc-b"
    why = (await commands.run("why", found["uuid"], "--json")).json()
    assert why == whole["placement"]


async def test_waiting_gives_up_in_time_and_says_that_the_work_goes_on(commands, twin):
    done = await commands.run("create", twin, "--wait", "--timeout", "0.5")
    assert done.code == 1
    assert "still under way after 0.5 s and goes on" in done.err
    (found,) = (await commands.run("list", "--json")).json()
    assert found["status"] == "CREATE_IN_PROGRESS"


async def test_same_key_gives_the_same_deployment(commands, twin):
    first = await commands.run("create", twin, "--key", "monday")
    again = await commands.run("create", twin, "--key", "monday")
    other = await commands.run("create", twin)
    assert first.out == again.out != other.out
    changed = await commands.run("create", twin, "--key", "monday", "-p", "years=5")
    assert changed.code == 2
    assert "Idempotency-Key" in changed.err


async def test_removal_is_followed_to_its_end_and_may_be_repeated(commands, twin):
    uuid = (await commands.run("create", twin)).out.strip()
    await commands.world.play()
    begun = await commands.run("delete", uuid, "--json")
    assert begun.json()["status"] == "DELETE_IN_PROGRESS"
    process = await commands.start("deploy", "delete", uuid, "--wait")
    await commands.world.play(20)
    done = await commands.end(process)
    assert (done.code, done.out.split()) == (0, [uuid, "DELETE_COMPLETE"])
    assert (await commands.run("delete", uuid)).code == 0


async def test_mistakes_are_one_line_each(commands, twin):
    for words, said in (
        (("create", twin + ".nothing"), "cannot be read"),
        (("create", twin, "-p", "years=500"), "years"),
        (("create", twin, "--group", "hydrology"), "hydrology"),
        (("show", "00000000-0000-4000-8000-000000000000"), "doesn't exist"),
    ):
        done = await commands.run(*words)
        assert done.code == 2, (words, done.err)
        assert said in done.err, words
        assert "Traceback" not in done.err


@pytest.mark.story("CLI `twinfra` with shell completion")
async def test_the_shell_completes_deployments(commands, twin):
    uuid = (await commands.run("create", twin)).out.strip()
    given = {
        "_TWINFRA_COMPLETE": "complete_bash",
        "COMP_WORDS": f"twinfra deploy show {uuid[:4]}",
        "COMP_CWORD": "3",
    }
    done = await commands.end(await commands.start(**given))
    assert uuid in done.out
    nobody = {**given, "TWINFRA_HOME": str(commands.folder / "empty")}
    done = await commands.end(await commands.start(**nobody))
    assert "Traceback" not in done.err
