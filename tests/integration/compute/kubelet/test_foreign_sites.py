"""Sites of somebody else: upstream's API before the kubelet, upstream's plug-in behind our API."""

import asyncio

import pytest

from twinfra.compute.interlink.wiring import build_api
from twinfra.testkit.foreign_interlink import PUBLISHED, ForeignInterlink
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
SITE = "hpc-b"
WITHIN_S = 60.0
DOUBT_S, LOST_S = 0.5, 1.0  # of the settings here
FAULT = (200, b'{"error": "disk full", "timestamp": 1}')
METHODS = {
    "/create": {"POST"}, "/delete": {"DELETE"}, "/status": {"GET"},
    "/getLogs": {"GET"}, "/pinglink": {"POST"},
}  # fmt: skip


@pytest.fixture
async def house():
    made = ForeignInterlink()
    await made.start()
    yield made
    await made.stop()


async def until_job(house, uid):
    return await wait_for(lambda: house.job(uid), timeout_s=WITHIN_S, what=f"the job of {uid}")


class TestUpstreamsApi:
    """The kubelet speaks to it without anything between."""

    @pytest.fixture
    async def node(self, context, settings, door, house, kubelet, control_plane, ready):
        with context.home.settings_file.open("a") as file:
            file.write(f'[kubelet.nodes.{kubelet.node}]\ntoken_file = "/dev/null"\n')
        kubelet.start("--node", f"{kubelet.node}={house.url}")
        await ready(control_plane, kubelet.node)
        return kubelet.node

    @pytest.mark.story("our kubelet can use upstream's API and plug-ins")
    async def test_a_pod_runs_gives_its_log_and_ends_by_polling(self, pods, node, house):
        uid = await pods.create()
        job = await until_job(house, uid)
        house.run(uid)
        running = await pods.until_phase("train-0", "Running")
        assert running["metadata"]["annotations"]["JobID"] == job.native_id
        house.log = b"line 1\nline 2\n"
        assert (await pods.kubectl("logs", "train-0")).stdout == "line 1\nline 2\n"
        house.finish(uid, 3)
        ended = await pods.until_phase("train-0", "Failed")
        assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
        second = await pods.create("train-1")
        await until_job(house, second)
        house.run(second)
        await pods.until_phase("train-1", "Running")
        await pods.kubectl("delete", "pod", "train-1", "--grace-period=1")
        await pods.until_gone("train-1")
        assert house.job(second) is None
        assert {call.path for call in house.calls} <= PUBLISHED
        for path, methods in METHODS.items():
            assert {call.method for call in house.of(path)} == methods
        assert not [call for call in house.calls if "Authorization" in call.headers]

    @pytest.mark.story("A plug-in without idempotent gets two status answers 15 s apart first")
    @pytest.mark.parametrize("taken", [False, True])
    async def test_a_pod_in_doubt_is_asked_for_twice_and_made_once(self, pods, node, house, taken):
        house.faults = {"/create": [(500, b"no answer of the plug-in")]}
        house.takes = taken
        if taken:
            house.faults["/status"] = [(200, b"null")]  # it learns of its job a moment later
        uid = await pods.create()
        await until_job(house, uid)
        house.takes = False
        house.run(uid)
        await pods.until_phase("train-0", "Running")
        assert len(house.of("/create", uid)) == (1 if taken else 2)
        first, second = house.of("/status", uid)[:2]
        assert second.at_s - first.at_s >= DOUBT_S * 0.9
        assert len(house.jobs) == 1
        if not taken:
            assert second.at_s < house.of("/create", uid)[1].at_s


class TestUpstreamsPlugin:
    """It stands behind our API, and answers 200 with an error inside."""

    @pytest.fixture
    async def node(self, context, issuer, settings, serving, house, kubelet, control_plane, ready):
        with context.home.settings_file.open("a") as file:
            file.write(f'[sites.{SITE}.interlink]\nplugin = "{house.url}"\nplugin_token = false\n')
        await serving(build_api(context, SITE))
        kubelet.start()
        await ready(control_plane, kubelet.node)
        return kubelet.node

    @pytest.mark.story("Plug-in answering 200 with an error inside: no pod fails, none runs twice")
    @pytest.mark.parametrize("taken", [False, True])
    async def test_a_pod_is_made_once_and_lives_on_when_answers_hold_errors(
        self, pods, node, house, taken, control_plane, ready
    ):
        house.faults = {"/create": [FAULT]}
        house.takes = taken
        uid = await pods.create()
        await until_job(house, uid)
        house.takes = False
        house.run(uid)
        await pods.until_phase("train-0", "Running")
        assert len(house.of("/create", uid)) == (1 if taken else 2)
        house.broken = {"/status": FAULT}
        await ready(control_plane, node, "False")
        asked = len(house.of("/status", uid))
        await asyncio.sleep(2 * LOST_S)
        await wait_for(lambda: len(house.of("/status", uid)) > asked, timeout_s=WITHIN_S)
        assert (await pods.get())["status"]["phase"] == "Running"
        house.broken = {}
        await ready(control_plane, node)
        house.faults = {"/delete": [FAULT]}
        await pods.kubectl("delete", "pod", "train-0", "--grace-period=1")
        await pods.until_gone()
        assert len(house.of("/delete", uid)) >= 2
        assert house.jobs == []
        assert len(house.of("/create", uid)) == (1 if taken else 2)
