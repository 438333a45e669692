"""Evictions beside a real virtual kubelet, which hears of the job's end at the same moment."""

import asyncio
import json

import pytest

from twinfra.core.ids import new_uuid
from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.waiting import wait_for

from .conftest import WITHIN_S, job

pytestmark = [pytest.mark.real("Kubernetes"), pytest.mark.slow, pytest.mark.timeout(600)]

OTHER = "edge-c"
PATIENCE = """
[placement]
ask_registries = false
again_s = [0.5, 2.0]
look_s = 0.3
lease_s = 4
"""


class LingeringSite(FakeSite):
    """A site whose jobs run at once, and end some while after they were told to."""

    def __init__(self):
        super().__init__(autostart=True)
        self.may_end = asyncio.Event()
        self.told = []

    async def cancel(self, native_id):
        self.told.append(native_id)
        if self.may_end.is_set():
            await super().cancel(native_id)

    def alive(self):
        return [each.spec.plan.uid for each in self.jobs.values() if not each.state.final]


class Witness:
    """Sees at each start of a job how many run at all sites."""

    def __init__(self, *sites):
        self.sites, self.most = sites, 0
        for site in sites:
            self.watch(site)

    def watch(self, site):
        submit = site.submit

        async def watched(spec):
            native_id = await submit(spec)
            self.most = max(self.most, sum(len(each.alive()) for each in self.sites))
            return native_id

        site.submit = watched


@pytest.fixture
def backend():
    return LingeringSite()


@pytest.fixture
async def two_nodes(installed, context, house, more_sites, kubelets, ready, backend):
    """Two virtual nodes of two sites in one kubelet, and what each site has."""
    other = LingeringSite()
    url = await more_sites(OTHER, other)
    first, second = (f"hpc-{new_uuid()[-10:]}" for _ in range(2))
    with context.home.settings_file.open("a") as file:
        file.write(PATIENCE)
    kubelets(first, "--node", f"{second}={url}").start()
    for name in (first, second):
        await ready(installed, name)
    return {first: backend, second: other}


@pytest.mark.story("its controller's new pod is ranked again; never two at once")
async def test_a_drained_sites_job_is_gone_before_the_other_site_starts_it(
    installed, offload, two_nodes
):
    async def kubectl(*args):
        return await asyncio.to_thread(installed.kubectl, "-n", offload, *args)

    async def pods():
        return json.loads((await kubectl("get", "pods", "-o", "json")).stdout)["items"]

    async def running(*nodes):
        found = [each for each in await pods() if each["status"]["phase"] == "Running"]
        return found if found and {each["spec"]["nodeName"] for each in found} <= {*nodes} else None

    async def until(probe, what):
        return await wait_for(probe, timeout_s=WITHIN_S, what=what)

    witness = Witness(*two_nodes.values())
    await asyncio.to_thread(installed.apply, job("work"), namespace=offload)
    (old,) = await until(lambda: running(*two_nodes), "the job to run")
    first, uid = old["spec"]["nodeName"], old["metadata"]["uid"]
    (second,) = set(two_nodes) - {first}
    left, reached = two_nodes[first], two_nodes[second]
    await kubectl("cordon", first)
    await kubectl("annotate", "node", first, "twinfra.io/drain=true")
    await until(lambda: len(left.told) > 3, "the site to be asked again and again")
    (held,) = await pods()
    assert (held["metadata"]["uid"], held["status"]["phase"]) == (uid, "Running")
    assert (left.alive(), reached.jobs) == ([uid], {})
    left.may_end.set()
    (new,) = await until(lambda: running(second), "the job at the other site")
    assert (left.alive(), reached.alive()) == ([], [new["metadata"]["uid"]])
    assert witness.most == 1
    gone = next((each for each in await pods() if each["metadata"]["uid"] == uid), None)
    assert gone["status"]["phase"] == "Failed"
    told = {each["type"]: each.get("reason") for each in gone["status"]["conditions"]}
    assert told["DisruptionTarget"] == "SiteDrains"
    reached.finish(new["metadata"]["uid"])
    await kubectl("wait", "--for=condition=Complete", "job/work", "--timeout=60s")
    assert len(left.submissions) + len(reached.submissions) == 2
