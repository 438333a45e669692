"""A kubelet whose clock is an hour off: lives of tokens and leases are measured, not compared."""

import asyncio
import base64
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest

from twinfra.compute.kubelet.kube.model import BoundToken
from twinfra.compute.kubelet.nodes.lease import NodeLease
from twinfra.compute.kubelet.pods.objects import Objects
from twinfra.core.errors import Conflict, NotFound
from twinfra.testkit.clock import VirtualClock

HOUR_S = 3600
OFF_S = pytest.mark.parametrize("off_s", [0, HOUR_S, -HOUR_S])
LEASE_S = 40


class OffClock:
    """A clock whose hands stand `off_s` from another's; it runs as fast."""

    def __init__(self, clock, off_s):
        self._clock, self._off = clock, timedelta(seconds=off_s)
        self.monotonic, self.sleep = clock.monotonic, clock.sleep

    def now(self):
        return self._clock.now() + self._off


def jwt(**claims):
    parts = [{"alg": "RS256"}, claims, "signature"]
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return b".".join(encoded).decode()


class Cluster:
    """Gives tokens as an API server whose clock is right; its answer may take a while."""

    def __init__(self, clock, *, takes_s=0.0, stretched=False, spell=jwt):
        self.clock, self.takes_s, self.stretched, self.spell = clock, takes_s, stretched, spell
        self.asked = []

    async def token_request(self, namespace, account, *, audiences, expires_s, pod):
        self.asked.append(expires_s)
        now = self.clock.now()
        ends = now + timedelta(seconds=expires_s)
        shown = ends + timedelta(days=365 if self.stretched else 0)
        self.clock._elapsed_s += self.takes_s
        token = self.spell(iat=int(now.timestamp()), exp=int(shown.timestamp()))
        return BoundToken(token, ends)


def pod(*lives_s):
    sources = [
        {"serviceAccountToken": {"path": "t", "expirationSeconds": life, "audience": str(life)}}
        for life in lives_s
    ]
    volume = {"name": "v", "projected": {"sources": sources}}
    return {
        "metadata": {"name": "p", "namespace": "ml", "uid": "u"},
        "spec": {"volumes": [volume], "containers": []},
    }


@OFF_S
@pytest.mark.story("clock of the kubelet an hour off")
@pytest.mark.parametrize(
    ("lives_s", "due_s"), [((3607,), 2885.6), ((600,), 480), ((3607, 600), 480), ((86400,), 69120)]
)
async def test_tokens_are_renewed_at_four_fifths_of_their_life_when_the_clock_is_off(
    off_s, lives_s, due_s
):
    clock = VirtualClock()
    cluster = Cluster(clock)
    found, renew_at_s = await Objects(cluster, OffClock(clock, off_s), None).tokens(pod(*lives_s))
    assert renew_at_s == pytest.approx(due_s, abs=1)
    assert sorted(cluster.asked) == sorted(lives_s) == sorted(each.expires_s for each in found)


@OFF_S
async def test_the_life_counts_from_the_question_when_the_answer_takes_long(off_s):
    clock = VirtualClock()
    objects = Objects(Cluster(clock, takes_s=30), OffClock(clock, off_s), None)
    assert (await objects.tokens(pod(600)))[1] == pytest.approx(480, abs=1)


@OFF_S
async def test_a_token_that_lives_on_for_old_clients_is_renewed_as_if_it_did_not(off_s):
    clock = VirtualClock()
    objects = Objects(Cluster(clock, stretched=True), OffClock(clock, off_s), None)
    assert (await objects.tokens(pod(3607)))[1] == pytest.approx(2885.6, abs=1)


@OFF_S
@pytest.mark.parametrize(
    "spell", [lambda **_: "opaque", lambda **_: jwt(iat="x"), lambda **_: jwt()]
)
async def test_the_life_asked_for_counts_when_the_token_does_not_say_its_own(off_s, spell):
    clock = VirtualClock()
    objects = Objects(Cluster(clock, spell=spell), OffClock(clock, off_s), None)
    assert (await objects.tokens(pod(600)))[1] == pytest.approx(480, abs=1)


class Leases:
    """One lease, as an API server keeps it."""

    def __init__(self):
        self.body, self.version = None, 0

    async def get(self, resource, name, namespace, *, kind):
        if self.body is None:
            raise NotFound("no lease")
        spec = self.body["spec"]
        return SimpleNamespace(
            metadata=SimpleNamespace(resource_version=str(self.version)),
            spec=SimpleNamespace(
                holder_identity=spec["holderIdentity"],
                lease_duration_seconds=spec["leaseDurationSeconds"],
                acquire_time=None,
                lease_transitions=spec.get("leaseTransitions", 0),
            ),
        )

    async def create(self, resource, body, namespace, *, kind):
        if self.body is not None:
            raise Conflict("there is one")
        self.body, self.version = body, self.version + 1

    async def replace(self, resource, name, body, namespace, *, kind):
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict("somebody else wrote it")
        self.body, self.version = body, self.version + 1


class Replica:
    """A kubelet that notes when it acts."""

    def __init__(self, cluster, clock, name):
        self.acting = False
        self.lease = NodeLease(cluster, "n", name, LEASE_S, clock)
        self.task = asyncio.create_task(self.lease.hold(self._act))

    async def _act(self):
        self.acting = True
        try:
            await asyncio.Event().wait()
        finally:
            self.acting = False

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.mark.story("clock of the kubelet an hour off: one of two holds the lease, then the other")
@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("first_is_off", [True, False])
async def test_the_lease_has_one_holder_when_the_clocks_of_two_differ(off_s, first_is_off):
    clock, cluster = VirtualClock(), Leases()
    clocks = [OffClock(clock, off_s), clock]
    clocks = clocks if first_is_off else clocks[::-1]
    first = Replica(cluster, clocks[0], "first")
    await clock.advance(1)
    second = Replica(cluster, clocks[1], "second")
    for _ in range(2 * HOUR_S // 10):
        await clock.advance(10)
        assert (first.acting, second.acting) == (True, False)
    await first.end()
    await clock.advance(LEASE_S - 15)
    assert not second.acting
    await clock.advance(25)
    assert second.acting
    await second.end()
