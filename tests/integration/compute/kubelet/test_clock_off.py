"""A kubelet whose clock is an hour off, where the cluster's and the site's are right."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from twinfra.compute.kubelet.wiring import build
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
HOUR = timedelta(hours=1)
RENEWALS = 8
"""A lease is renewed four times in its life: so many take twice as long."""
TOKEN = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "there"}}


class OffClock:
    """The machine's clock with its hands moved."""

    def __init__(self, off):
        self._off = off
        self.monotonic, self.sleep = SYSTEM_CLOCK.monotonic, SYSTEM_CLOCK.sleep

    def now(self):
        return SYSTEM_CLOCK.now() + self._off


@pytest.fixture(params=[HOUR, -HOUR], ids=["ahead", "behind"])
async def off_node(request, context, house, serving, control_plane, node_name, ready):
    """A virtual node of this process, whose clock is an hour off."""
    shifted = replace(context, clock=OffClock(request.param))
    nodes = {node_name: house.api}
    end = await serving(build(shifted, nodes=nodes, kubeconfig=control_plane.kubeconfig))
    await ready(control_plane, node_name)
    yield node_name
    await end()
    await asyncio.to_thread(control_plane.kubectl, "delete", "node", node_name, check=False)


async def lease_of(pods, node):
    return (await pods.cluster_json("get", "lease", node, "-n", "kube-node-lease"))["spec"]


@pytest.mark.story("clock of the kubelet an hour off")
async def test_a_pod_runs_and_the_node_stays_when_the_clock_is_an_hour_off(
    pods, off_node, house, recorder, kubelet, control_plane, ready
):
    volumes = [{"name": "v", "projected": {"sources": [TOKEN]}}]
    mounts = [{"name": "v", "mountPath": "/v"}]
    uid = await pods.create(volumes=volumes, container={"volumeMounts": mounts})
    await house.until_job(uid)
    house.site.start(uid)
    await pods.until_phase("train-0", "Running")
    holder = await lease_of(pods, off_node)
    kubelet.start("--identity", "another")  # by a clock that is right
    await wait_for(
        lambda: "node_lease_waited_for" in kubelet.log.read_text(), timeout_s=60, what="its wait"
    )
    seen = set()

    async def renewed():
        seen.add((await lease_of(pods, off_node))["renewTime"])
        return len(seen) > RENEWALS

    await wait_for(renewed, timeout_s=60, what="renewals")
    lease = await lease_of(pods, off_node)
    assert lease["holderIdentity"] == holder["holderIdentity"] != "another"
    assert kubelet.process.poll() is None
    await ready(control_plane, off_node)
    assert recorder.of("/ext/files") == []  # the token has ten minutes, and eight of them to go
    house.site.finish(uid)
    await pods.until_phase("train-0", "Succeeded")
    assert house.site.submissions == [uid]
