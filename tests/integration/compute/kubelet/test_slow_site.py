"""Pods of a real control plane at a site whose plug-in answers later than its API server waits."""

import asyncio

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


@pytest.fixture
def settings(settings, context):
    with context.home.settings_file.open("a") as file:
        file.write("[sites.hpc-b.interlink]\nplugin_timeout_s = 1.0\n")


@pytest.mark.story("Plug-in slow: the pod is made once, other pods go on")
async def test_a_pod_is_made_once_and_others_go_on_when_the_plugin_is_slow(
    pods, node, house, slow_images
):
    slow = await pods.create("slow-0", container={"image": "slow:1"})
    quick = [await pods.create(f"quick-{number}") for number in range(3)]
    await asyncio.gather(*map(house.until_job, quick))
    assert house.job(slow) is None  # it was not waited for
    slow_images.set()
    job = await house.until_job(slow)
    for uid in (slow, *quick):
        house.site.start(uid)
        house.site.finish(uid)
    await asyncio.gather(
        *(pods.until_phase(name, "Succeeded") for name in ("slow-0", "quick-0", "quick-2"))
    )
    assert [each for each in house.site.jobs.values() if each.spec.plan.uid == slow] == [job]
    assert house.site.submissions.count(slow) == 1
