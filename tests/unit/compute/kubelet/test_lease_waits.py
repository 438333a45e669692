"""What the log says while a replica waits for a lease: each reason once."""

import asyncio

from twinfra.compute.kubelet.nodes.lease import NodeLease
from twinfra.core.errors import NotFound, Unavailable
from twinfra.testkit.clock import VirtualClock


class NoNamespace:
    """A cluster without the lease's namespace, whose API server is away once."""

    def __init__(self):
        self.asked = 0

    async def get(self, resource, name, namespace, *, kind):
        self.asked += 1
        if self.asked == 5:
            raise Unavailable("away")
        raise NotFound("no lease")

    async def create(self, resource, body, namespace, *, kind):
        raise NotFound("no namespace")


async def test_each_reason_is_said_once_when_a_lease_cannot_be_had(log_lines):
    clock, cluster = VirtualClock(), NoNamespace()
    waiting = asyncio.create_task(
        NodeLease(cluster, "n", "me", 40, clock).hold(asyncio.Event().wait)
    )
    for _ in range(10):
        await clock.advance(2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert cluster.asked > 8
    codes = [line["code"] for line in log_lines() if line["event"] == "node_lease_waits"]
    assert codes == ["not-found", "unavailable", "not-found"]
