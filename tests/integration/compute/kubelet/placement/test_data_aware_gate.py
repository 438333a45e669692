"""The gate on a real control plane, ranked by the federation's own services: data draws pods."""

import asyncio
import json

import pytest

from twinfra.access.tokens import TokenClient
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.placement.wiring import placement
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.data.datasets.client import Did
from twinfra.testkit.ranked import ranked_federation

from .conftest import CONTAINER, pod, until

pytestmark = [
    pytest.mark.real("Kubernetes"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
SITES = {"hpc-b": 4.0, "edge-c": 4.0}
SETTINGS = """
[placement]
ranking = true
ask_registries = false
again_s = [0.5, 2.0]
lease_s = 4
"""


@pytest.fixture
async def federation(context, tmp_path):
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(SETTINGS)
    (tmp_path / "nats").mkdir()
    async with ranked_federation(context, tmp_path / "nats", SITES, SITES) as made:
        yield made


@pytest.fixture
async def gate(installed, federation):
    """The gate as the virtual kubelet runs it, with its own identity in the federation."""
    context = federation.context
    client = KubeClient.from_kubeconfig(installed.kubeconfig)
    recorder = EventRecorder(client, SYSTEM_CLOCK, per_s=100)
    tokens = TokenClient.from_context(context, "kubelet")
    loops = [recorder.run, placement(context, client, recorder, tokens, "test")]
    tasks = [asyncio.create_task(loop()) for loop in loops]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await tokens.close()
    await client.close()


async def test_a_pod_goes_where_its_data_is_and_the_event_says_so(
    installed, offload, virtual_node, federation, gate
):
    async def objects(kind):
        done = await asyncio.to_thread(installed.kubectl, "-n", offload, "get", kind, "-o", "json")
        return json.loads(done.stdout)["items"]

    async def placed():
        found = {
            each["metadata"]["name"]: each["spec"].get("nodeName") for each in await objects("pods")
        }
        return found if all(found.values()) else None

    async def told(name, reason):
        return next(
            (
                each["message"]
                for each in await objects("events")
                if (each["involvedObject"]["name"], each["reason"]) == (name, reason)
            ),
            None,
        )

    nodes = {site: virtual_node(labels={"twinfra.io/site": site}) for site in SITES}
    await federation.dataset(Did("climate", "here"), "HPC-B", "a.nc", "b.nc")
    await federation.dataset(Did("climate", "there"), "EDGE-C", "c.nc", "d.nc")

    async def both_are_up():
        answer = await federation.asks.rank({"cpu": 1}, [], group="climate")
        return len(answer.sites) == len(SITES)

    await until(both_are_up, "monitoring to have seen both sites")
    small = {**CONTAINER, "resources": {"requests": {"cpu": "100m"}}}
    for name in ("here", "there"):
        notes = {
            "twinfra.io/inputs": f"climate:{name}",
            "twinfra.io/group": "climate",
            "twinfra.io/architectures": "amd64",  # x86_64 to the catalogue
        }
        body = pod(name, annotations=notes, containers=[small])
        await asyncio.to_thread(installed.apply, body, namespace=offload)
    found = await until(placed, "both pods to have a node")
    assert found == {"here": nodes["hpc-b"], "there": nodes["edge-c"]}
    for name, node in found.items():
        why = await until(lambda name=name: told(name, "Placed"), f"the event of {name}")
        assert why.startswith(f"goes to {node}: ")
        assert "all inputs are here already, nothing is transferred" in why
