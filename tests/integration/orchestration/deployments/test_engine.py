"""The durable engine under the orchestrator: on both databases, and killed after each step."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from twinfra.core.time import SYSTEM_CLOCK
from twinfra.core.workflow import Engine
from twinfra.orchestration.deployments.service.deployments import Deployments, Request
from twinfra.orchestration.deployments.service.work import workflows
from twinfra.orchestration.deployments.settings import DeploymentsSettings
from twinfra.orchestration.deployments.store import WORKFLOW
from twinfra.testkit.orchestra import Orchestra, a_person
from twinfra.testkit.waiting import wait_for

TEMPLATE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  node_templates:
    train:
      type: tosca.nodes.twinfra.Job
      properties: {image: x, inputs: ["climate:scenarios"], outputs: ["climate:model"]}
    predict:
      type: tosca.nodes.twinfra.Service
      properties: {image: x, port: 80, inputs: ["climate:scenarios"]}
      requirements: [{dependency: train}]
"""
SETTINGS = DeploymentsSettings(status_every_s=0.05, probe_every_s=0.02)


class Life:
    """The orchestrator with the real engine and clock; fakes keep their state when it dies."""

    def __init__(self, database, world):
        self.database, self.world, self.steps, self.inside = database, world, 0, 0
        self.kit = replace(world.kit, clock=SYSTEM_CLOCK, settings=SETTINGS)
        self.deployments = Deployments(self.kit)

    @contextlib.asynccontextmanager
    async def living(self, die_after=None):
        """Run the engine; it dies when step number `die_after` was done and not yet written."""
        died = asyncio.Event()
        engine = Engine(self.database, WORKFLOW, SYSTEM_CLOCK, self._mortal(die_after, died))
        self.world.store.use(engine)
        running = asyncio.create_task(engine.run())
        try:
            yield died
        finally:
            await wait_for(lambda: self.inside == 0, what="the last steps")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _mortal(self, die_after, died):
        def watched(do):
            async def step(work):
                if died.is_set():
                    await asyncio.Event().wait()
                self.inside += 1
                outcome = await do(work)
                self.inside -= 1
                self.steps += 1
                if self.steps == die_after:
                    died.set()
                if died.is_set():  # what the step did stands, what came of it is never written
                    await asyncio.Event().wait()
                return outcome

            return step

        return [
            replace(each, steps=[replace(step, do=watched(step.do)) for step in each.steps])
            for each in workflows(self.kit)
        ]

    async def status(self, deployment):
        async with self.world.store.view() as view:
            return (await view.deployment(deployment)).status

    async def until(self, deployment, status, died=None):
        """Wait for a status, ending jobs as they run; stop early when the engine died."""

        async def there():
            for uid, pod in self.world.driver.site("hpc-b").pods.items():
                if pod.workload.node == "train" and not pod.seen.phase.final:
                    self.world.driver.finish(uid, 0)
            dead = died is not None and died.is_set()
            return dead or await self.status(deployment) == status

        await wait_for(there, timeout_s=90, what=status)
        return died is None or not died.is_set()


@pytest.fixture
async def life(database):
    return Life(database, await Orchestra.tuned(database, "hpc-b"))


async def test_story_is_the_same_on_both_databases(life):
    async with life.living():
        made = await life.deployments.create(a_person(), Request(template=TEMPLATE))
        deployment = made.deployment.id
        await life.until(deployment, "CREATE_COMPLETE")
        assert len(life.world.driver.site("hpc-b").pods) == 2
        await life.deployments.delete(a_person(), deployment)
        await life.until(deployment, "DELETE_COMPLETE")
    assert life.world.driver.site("hpc-b").pods == {}
    told = [e.data["status"] for e in life.world.out.events if e.data["node"] is None]
    assert told == [
        "CREATE_IN_PROGRESS",
        "CREATE_COMPLETE",
        "DELETE_IN_PROGRESS",
        "DELETE_COMPLETE",
    ]


async def test_nothing_is_made_twice_when_it_is_killed_after_each_step(sqlite):
    world = await Orchestra.tuned(sqlite, "hpc-b")
    life, lives, goal = Life(sqlite, world), 0, "CREATE_COMPLETE"
    async with life.living(die_after=1):
        created = await life.deployments.create(a_person(), Request(template=TEMPLATE))
    deployment = created.deployment.id
    while True:
        lives += 1
        # three pieces of work take turns: a life of fewer steps always ends in the same ones
        die_after = life.steps + 1 + lives % 4
        async with life.living(die_after) as died:
            reached = await life.until(deployment, goal, died)
        if reached and goal == "DELETE_COMPLETE":
            break
        if reached:
            made = [uid for what, uid in world.driver.calls if what == "create"]
            assert len(set(made)) == 2
            async with life.living(life.steps + 1):
                await life.deployments.delete(a_person(), deployment)
            goal = "DELETE_COMPLETE"
    assert lives > 15
    assert world.driver.site("hpc-b").pods == {}
    assert len(set(world.driver.site("hpc-b").gone)) == 2
    assert world.data.rules == {}
    async with world.store.view() as view:
        assert [a.number for a in await view.attempts(deployment=deployment)] == [1, 1]
