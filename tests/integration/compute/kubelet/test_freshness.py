"""How the site's states reach pods: by events where it has them, else many pods in one question."""

import asyncio
from collections import Counter

import pytest

from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.recorder import Recorder
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
MANY = 40
WITHIN_S = 120.0
SOON_S = 10.0
NEVER_S = 600.0


def asked(recorder):
    """Return the UIDs of each question; one for none is the look for jobs without a pod."""
    bodies = [call.body for call in recorder.of("/status")]
    return [[pod["metadata"]["uid"] for pod in body] for body in bodies if body]


class TestWithoutEvents:
    """A site that tells no events."""

    @pytest.fixture
    def backend(self):
        return FakeSite(autostart=True)

    @pytest.fixture
    def recorder(self):
        return Recorder(without={"events"})

    @pytest.mark.story("Batched `/status` for all pods in one call")
    async def test_one_question_is_for_all_pods(self, pods, node, house, recorder):
        async def until_all(phase):
            async def reached():
                found = (await pods.json("get", "pods"))["items"]
                return Counter(pod["status"]["phase"] for pod in found) == {phase: MANY}

            await wait_for(reached, timeout_s=WITHIN_S, what=f"{MANY} pods {phase}")

        await pods.apply(*(pods.manifest(f"p-{number}") for number in range(MANY)))
        await until_all("Running")
        uids = {job.spec.plan.uid for job in house.site.jobs.values()}
        before = len(asked(recorder))

        async def rounds():
            return len(asked(recorder)) >= before + 5

        await wait_for(rounds, timeout_s=WITHIN_S, what="five questions")
        last = asked(recorder)[before + 1 : before + 5]
        assert all(sorted(one) == sorted(uids) for one in last), [len(one) for one in last]
        for uid in uids:
            house.site.finish(uid)
        ending = len(asked(recorder))
        await until_all("Succeeded")
        assert len(asked(recorder)) - ending < MANY / 2
        assert not [call for call in recorder.calls if call.path == "/ext/events"]
        assert len(house.site.submissions) == MANY


class TestWithEvents:
    """A site that tells events, and a kubelet that asks as good as never."""

    @pytest.fixture
    def settings(self, settings, context):
        text = context.home.settings_file.read_text()
        for line in ("poll_s = 0.3\n", "reconcile_s = 2.0\n"):
            text = text.replace(line, "")
        never = "".join(f"{name} = {NEVER_S}\n" for name in ("poll_s", "resync_s", "reconcile_s"))
        context.home.settings_file.write_text(text.replace("[kubelet]\n", f"[kubelet]\n{never}"))

    @pytest.mark.story("`/ext/events`: a state change reaches the pod without polling")
    async def test_a_change_reaches_the_pod_without_a_question(self, pods, node, house, recorder):
        uid = await pods.create()
        await house.until_job(uid)
        await pods.until("train-0", lambda pod: pod["metadata"].get("annotations", {}).get("JobID"))
        await house.until(lambda: asked(recorder) and uid in asked(recorder)[-1])  # once, at first
        before = len(recorder.of("/status"))
        async with asyncio.timeout(SOON_S):
            house.site.start(uid)
            await pods.until_phase("train-0", "Running")
        async with asyncio.timeout(SOON_S):
            house.site.finish(uid)
            await pods.until_phase("train-0", "Succeeded")
        assert recorder.of("/status")[before:] == []
