"""Five hundred pods at once on one virtual node of a real control plane."""

from collections import Counter

import pytest

from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.waiting import wait_for

MANY = 500
WITHIN_S = 400.0

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(900)]


@pytest.fixture
def backend():
    return FakeSite(autostart=True)


async def until_all(pods, phase):
    async def reached():
        found = (await pods.json("get", "pods"))["items"]
        return Counter(pod["status"]["phase"] for pod in found) == {phase: MANY}

    await wait_for(reached, timeout_s=WITHIN_S, what=f"{MANY} pods {phase}")


@pytest.mark.story("the 500-pod half of 25")
async def test_all_show_their_states_and_none_is_made_twice_when_there_are_many(pods, node, house):
    await pods.apply(*(pods.manifest(f"p-{number}") for number in range(MANY)))
    await until_all(pods, "Running")
    for job in list(house.site.jobs.values()):
        house.site.finish(job.spec.plan.uid)
    await until_all(pods, "Succeeded")
    assert len(house.site.submissions) == len(set(house.site.submissions)) == MANY
