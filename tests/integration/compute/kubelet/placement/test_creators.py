"""A person's pod is the person's at the site too: the stamp that admission gave it is mapped."""

import asyncio
import json

import pytest

from .conftest import CREATOR, ISSUER, job, pod

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
WITHIN = "--timeout=90s"


@pytest.fixture
def settings(settings, context, control_plane):
    """Trust the cluster by a copy of its keys, and the stamps of its people, alice's alone."""
    keys = context.home.root / "cluster-keys.json"
    keys.write_text(control_plane.kubectl("get", "--raw", "/openid/v1/jwks").stdout)
    with context.home.settings_file.open("a") as file:
        file.write(
            f"""
unmapped = "refuse"
[[sites.hpc-b.plugin.workloads]]
issuer = "{control_plane.issuer}"
creator = "{ISSUER}#alice-*"
group = "climate"
[[access.issuers]]
issuer = "{control_plane.issuer}"
keys_file = "{keys}"
"""
        )


async def pod_of(person, selector):
    """Return the one pod of a job, once the job has made it."""
    words = ("get", "pods", "-l", selector, "-o", "json")
    wait = ("wait", "--for=create", "pod", "-l", selector, WITHIN)
    await asyncio.to_thread(person.kubectl, *wait)
    (found,) = json.loads((await asyncio.to_thread(person.kubectl, *words)).stdout)["items"]
    return found


@pytest.mark.story("and the site maps the person")
async def test_a_jobs_pod_belongs_to_the_person_who_made_the_job(person, node, house):
    alice = await asyncio.to_thread(person, "alice")
    selected = job("train", None)
    selected["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    await asyncio.to_thread(alice.apply, selected)
    made = await pod_of(alice, "job-name=train")
    assert made["metadata"]["annotations"][CREATOR] == alice.name
    await house.until_job(made["metadata"]["uid"])
    owner = (await house.kept(made["metadata"]["uid"])).owner
    assert f"{owner.issuer}#{owner.sub}" == alice.name
    assert (owner.group, owner.is_service) == ("climate", False)


@pytest.mark.story("An unstamped pod gets the namespace's robot account or is refused")
@pytest.mark.parametrize("sub", ["bob", None], ids=["another person", "nobody of the federation"])
async def test_a_pod_that_alice_did_not_make_is_refused_with_the_reason(person, node, house, sub):
    name = None if sub else "an-admin"
    somebody = await asyncio.to_thread(person, sub, name=name)
    await asyncio.to_thread(somebody.apply, pod("p", nodeSelector={"kubernetes.io/hostname": node}))
    failed = ("wait", "--for=jsonpath={.status.phase}=Failed", "pod/p", WITHIN)
    await asyncio.to_thread(somebody.kubectl, *failed)
    body = await asyncio.to_thread(somebody.get, "pod", "p")
    assert "this site has no account for system:serviceaccount" in body["status"]["message"]
    assert (f"made by {somebody.name}" in body["status"]["message"]) == (sub is not None)
    assert house.job(body["metadata"]["uid"]) is None
