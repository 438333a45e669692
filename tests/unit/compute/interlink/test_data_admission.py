"""Pods of people whose token our issuer cannot keep: what is here is theirs, nothing is brought."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from twinfra.access.model import Principal
from twinfra.compute.interlink.data.admission import Admission
from twinfra.compute.interlink.data.doors import NO_PERMISSION, DataDoors
from twinfra.compute.interlink.data.inputs import InputStager
from twinfra.compute.interlink.model.pod import PodRef
from twinfra.compute.interlink.model.status import PodReport
from twinfra.compute.interlink.plugin.model import KeptPod, Owner
from twinfra.compute.interlink.pods.request import DataMount, PodRequest
from twinfra.core.errors import InvalidRequest, Unauthenticated
from twinfra.testkit.clock import VirtualClock

ISSUER = "https://elsewhere.example"
CALLER = Principal(ISSUER, "alice", None, frozenset(), (), None, "a.b.c", is_service=False)
MOUNT = DataMount("climate", "scenarios", PurePosixPath("/data/climate/scenarios"))
REQUEST = PodRequest(PodRef("u", "p", "n"), ())


class Datasets:
    """Has every dataset; is asked for nothing else."""

    async def get_did(self, did):
        return did


class Tokens:
    """Keeps no token; has revoked nothing."""

    async def delegate(self, token):
        raise Unauthenticated("that issuer's tokens are not exchanged")

    async def revoke(self, delegation):
        raise AssertionError("there is nothing to revoke")


@pytest.fixture
def doors(tmp_path):
    return DataDoors("HPC-B", tmp_path, "https://edge", "https://datasets", Tokens())


@pytest.fixture
def pod():
    report = PodReport("u", "p", "n", containers=())
    made = KeptPod(report, Owner(ISSUER, "alice"), {}, "w", VirtualClock().now())
    return replace(made, delegation=NO_PERMISSION)


async def test_is_taken_when_it_has_inputs_only(doors):
    request = replace(REQUEST, inputs=(MOUNT,))
    assert await Admission(doors, Datasets()).admit(CALLER, request) == NO_PERMISSION


async def test_is_refused_when_it_promises_outputs(doors):
    request = replace(REQUEST, inputs=(MOUNT,), outputs=(MOUNT,))
    with pytest.raises(InvalidRequest, match=r"twinfra\.io/outputs"):
        await Admission(doors, Datasets()).admit(CALLER, request)


async def test_nothing_is_brought_in_its_owners_name(doors, pod):
    stager = InputStager(doors, Datasets(), lifetime_s=60)
    told = await stager.bring(pod, ["climate:scenarios"])
    assert "could not be kept" in told
    await doors.release(pod)
