"""``kill -9`` of the kubelet at every step of a pod's life; replicas; a control plane that goes."""

import asyncio

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


class Run:
    """One pod, and the ways to bring it to a step of its life."""

    def __init__(self, pods, house, kubelet):
        self.pods, self.house, self.kubelet, self.uid = pods, house, kubelet, ""

    async def before_create(self):
        """Kubernetes has the pod, the kubelet died before it saw it."""
        self.kubelet.kill()
        self.uid = await self.pods.create()

    async def after_create(self):
        """The site has the pod, Kubernetes was told nothing of it."""
        await self.before_create()
        body = await self.pods.get()
        body["metadata"].pop("managedFields", None)
        from twinfra.compute.interlink.client import PodCreateRequest

        await self.house.client().create(PodCreateRequest(body))
        await self.house.until_job(self.uid)

    async def running(self):
        """Kubernetes shows the pod running."""
        self.uid = await self.pods.create()
        await self.house.until_job(self.uid)
        self.house.site.start(self.uid)
        await self.pods.until_phase("train-0", "Running")
        self.kubelet.kill()

    async def ended_unseen(self):
        """The job ended while no kubelet was there."""
        await self.running()
        self.house.site.finish(self.uid)

    async def deleting(self):
        """The end of the pod was asked for while no kubelet was there."""
        await self.running()
        await self.pods.kubectl("delete", "pod", "train-0", "--wait=false")

    async def vanished(self):
        """The pod was deleted by force while no kubelet was there."""
        await self.running()
        await self.pods.kubectl("delete", "pod", "train-0", "--force", "--grace-period=0")


@pytest.fixture
def run(pods, house, kubelet, node):
    return Run(pods, house, kubelet)


@pytest.mark.story("kill -9 of kubelet at every step of a pod's life: no job lost, none run twice")
@pytest.mark.parametrize("step", ["before_create", "after_create", "running", "ended_unseen"])
async def test_the_job_runs_once_when_the_kubelet_is_killed(run, pods, house, kubelet, step):
    await getattr(run, step)()
    kubelet.start()
    await house.until_job(run.uid)
    if step != "ended_unseen":
        house.site.start(run.uid)
        await pods.until_phase("train-0", "Running")
        house.site.finish(run.uid)
    pod = await pods.until_phase("train-0", "Succeeded")
    assert pod["metadata"]["annotations"]["JobID"]
    assert pod["metadata"]["uid"] == run.uid
    assert len(house.site.submissions) == 1


@pytest.mark.story("kill -9 of kubelet at every step of a pod's life: none orphaned")
@pytest.mark.parametrize("step", ["deleting", "vanished"])
async def test_the_job_is_ended_when_its_pod_goes_while_the_kubelet_is_dead(
    run, pods, house, kubelet, step
):
    await getattr(run, step)()
    job = house.job(run.uid)
    assert job.cancels == 0
    kubelet.start()
    await house.until(lambda: job.cancels == 1)
    await pods.until_gone()


@pytest.mark.story("A reconcile loop leaves alone what other clusters and people run there")
async def test_a_job_of_somebody_else_lives_when_the_node_is_reconciled(pods, node, house):
    from twinfra.compute.interlink.client import PodCreateRequest
    from twinfra.core.ids import new_uuid

    body = pods.manifest("stranger")
    body["metadata"] |= {"uid": new_uuid(), "namespace": "elsewhere"}
    client = house.client()
    await client.create(PodCreateRequest(body))
    other = await house.until_job(body["metadata"]["uid"])
    await client.status([body])
    uid = await pods.create()
    job = await house.until_job(uid)
    await pods.kubectl("delete", "pod", "train-0", "--force", "--grace-period=0")
    await house.until(lambda: job.cancels == 1)
    assert other.cancels == 0


@pytest.mark.story("Several replicas with a leader lease: two kubelets for one node")
async def test_a_second_replica_takes_over_when_the_first_is_killed(
    pods, node, house, kubelet, context, control_plane
):
    second = type(kubelet)(context, control_plane, node, "--identity", "second")
    second.start()
    try:
        uid = await pods.create()
        await house.until_job(uid)
        house.site.start(uid)
        await pods.until_phase("train-0", "Running")
        assert len(house.site.submissions) == 1
        kubelet.kill()
        other = await pods.create("after")
        await house.until_job(other)
        lease = await pods.cluster_json("get", "lease", node, "-n", "kube-node-lease")
        assert lease["spec"]["holderIdentity"] == "second"
        assert len(house.site.submissions) == 2
    finally:
        await second.stop()


@pytest.mark.story("API server restarted: nothing is lost and nothing runs twice")
async def test_pods_go_on_when_the_api_server_is_restarted(pods, node, house, own_control_plane):
    uid = await pods.create()
    await house.until_job(uid)
    house.site.start(uid)
    await pods.until_phase("train-0", "Running")
    await asyncio.to_thread(own_control_plane.kill_apiserver)
    house.site.finish(uid)
    await asyncio.to_thread(own_control_plane.wait_ready)
    await pods.until_phase("train-0", "Succeeded")
    assert len(house.site.submissions) == 1


@pytest.mark.story("etcd compacted under the watch, 410 Gone: nothing is lost")
async def test_pods_go_on_when_the_history_is_forgotten(pods, node, house, own_control_plane):
    uid = await pods.create()
    await house.until_job(uid)
    await asyncio.to_thread(own_control_plane.forget_history)
    house.site.start(uid)
    await pods.until_phase("train-0", "Running")
    late = await pods.create("late")
    await house.until_job(late)
    assert len(house.site.submissions) == 2


@pytest.mark.story("Plug-in down: pods wait, and go on when it is back")
async def test_pods_go_on_when_the_site_was_away(pods, node, house, control_plane, ready):
    uid = await pods.create()
    await house.until_job(uid)
    await house.end_plugin()
    await ready(control_plane, node, "False")
    late = await pods.create("late")
    house.site.start(uid)
    await house.start_plugin()
    await ready(control_plane, node)
    await pods.until_phase("train-0", "Running")
    await house.until_job(late)
    assert len(house.site.submissions) == 2


@pytest.mark.story("Pods without a job: the pod fails and says so, it is not run again")
async def test_a_pod_fails_when_its_site_forgot_it(pods, node, house):
    uid = await pods.create()
    await house.until_job(uid)
    await pods.until(
        "train-0",
        lambda pod: "JobID" in pod["metadata"].get("annotations", {}),
        "the annotation",
    )
    await house.client().delete(await pods.get())
    pod = await pods.until_phase("train-0", "Failed")
    assert len(house.site.submissions) == 1
    assert pod["status"]["reason"]
