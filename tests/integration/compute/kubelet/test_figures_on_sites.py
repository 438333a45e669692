"""What a collector reads of a virtual node: the figures of real containers."""

import json
import re
import time

import aiohttp
import pytest

from twinfra.compute.kubelet.kube.config import access_of
from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
WITHIN_S = 90.0
NANO = 1_000_000_000
HELD_BYTES = 20_000_000
LIMIT_BYTES = 256 * 1024**2


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.real("slurm"))])
def house(request):
    return request.getfixturevalue(f"{request.param}_house")


async def read(pods, path):
    """Ask the node's own API, as a collector does: an API server's proxy refuses loopback."""
    node = await pods.cluster_json("get", "node", pods.node)
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    trusted = aiohttp.TCPConnector(ssl=access_of(pods.cluster.kubeconfig).tls)
    url = f"https://127.0.0.1:{port}/{path}"
    async with aiohttp.ClientSession(connector=trusted) as session, session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def figures(pods, cpu_above_s=0.0):
    """Return the node, the pod and its container once it has burnt more than that."""

    async def told():
        summary = json.loads(await read(pods, "stats/summary"))
        for pod in summary["pods"]:
            (main,) = pod["containers"]
            grown = main["cpu"]["usageCoreNanoSeconds"] > cpu_above_s * NANO
            if grown and main["memory"]["workingSetBytes"] > HELD_BYTES:
                return summary["node"], pod, main
        return None

    return await wait_for(told, timeout_s=WITHIN_S, what="the figures")


@pytest.mark.story("stats/summary and metrics/resource with real figures from the keeper")
async def test_figures_are_plausible_and_grow_when_a_pod_works(pods, node):
    started_s = time.monotonic()
    burn = f'BEGIN {{ held = sprintf("%{HELD_BYTES}s", "x"); while (1) i++ }}'
    limits = {"cpu": "1", "memory": str(LIMIT_BYTES)}
    busy = {"image": BUSYBOX, "command": ["awk", burn], "resources": {"limits": limits}}
    await pods.create(container=busy)
    await pods.until_phase("train-0", "Running")
    _, _, first = await figures(pods)
    before_s = first["cpu"]["usageCoreNanoSeconds"] / NANO
    whole, pod, main = await figures(pods, before_s + 1.0)
    assert pod["podRef"]["name"] == "train-0"
    assert main["name"] == "main"
    after_s = main["cpu"]["usageCoreNanoSeconds"] / NANO
    assert before_s + 1.0 < after_s < time.monotonic() - started_s
    assert 0 < main["cpu"]["usageNanoCores"] < 1.5 * NANO
    assert HELD_BYTES < main["memory"]["workingSetBytes"] < LIMIT_BYTES
    assert pod["memory"]["workingSetBytes"] >= main["memory"]["workingSetBytes"]
    assert whole["memory"]["workingSetBytes"] >= pod["memory"]["workingSetBytes"]
    assert whole["cpu"]["usageCoreNanoSeconds"] >= pod["cpu"]["usageCoreNanoSeconds"]
    metrics = await read(pods, "metrics/resource")
    labels = re.escape(f'{{container="main",namespace="{pods.namespace}",pod="train-0"}}')
    cpu_s, memory_bytes = (
        float(re.search(rf"^container_{name}{labels} (\S+)", metrics, re.MULTILINE)[1])
        for name in ("cpu_usage_seconds_total", "memory_working_set_bytes")
    )
    assert after_s <= cpu_s < time.monotonic() - started_s
    assert HELD_BYTES < memory_bytes < LIMIT_BYTES
    assert re.search(r"^node_cpu_usage_seconds_total [1-9]", metrics, re.MULTILINE)
    assert "resource_scrape_error 0.0" in metrics
