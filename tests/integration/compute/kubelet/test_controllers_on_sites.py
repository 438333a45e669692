"""Kubernetes' own controllers over real containers of a local site and of one on Slurm."""

import pytest

from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
WITHIN_S = 90.0
WITHIN = f"--timeout={WITHIN_S:.0f}s"
LASTING = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.real("slurm"))])
def house(request):
    return request.getfixturevalue(f"{request.param}_house")


def shell(script):
    limits = {"limits": {"cpu": "1", "memory": "64Mi"}}
    return {"image": BUSYBOX, "command": ["sh", "-c", script], "resources": limits}


async def apply(pods, group, kind, spec):
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    await pods.apply(body)


def lasting(pods, replicas, **more):
    template = pods.template(container=shell(LASTING), restartPolicy="Always")
    selector = {"matchLabels": {"app": "x"}}
    return {"replicas": replicas, "selector": selector, "template": template, **more}


async def names(pods, phase="Running"):
    """Return the names of the controller's pods in that phase that nobody deletes."""
    found = (await pods.json("get", "pods", "-l", "app=x"))["items"]
    return sorted(
        pod["metadata"]["name"]
        for pod in found
        if pod["status"]["phase"] == phase and "deletionTimestamp" not in pod["metadata"]
    )


async def until_pods(pods, count):
    async def reached():
        found = (await pods.json("get", "pods", "-l", "app=x"))["items"]
        running = await names(pods)
        return (running or True) if len(found) == len(running) == count else None

    return await wait_for(reached, timeout_s=WITHIN_S, what=f"{count} running pods")


@pytest.mark.story("Jobs with parallelism and back-off limits")
async def test_a_job_completes_when_three_pods_have_succeeded_two_at_a_time(pods, node):
    waits = '[ "$JOB_COMPLETION_INDEX" = 2 ] || until [ -e /tmp/go ]; do sleep 0.1; done'
    template = pods.template(container=shell(f"{waits}; echo done"))
    spec = {"completionMode": "Indexed", "parallelism": 2, "completions": 3, "template": template}
    await apply(pods, "batch/v1", "Job", spec)
    for name in await until_pods(pods, 2):
        await pods.kubectl("exec", name, "--", "touch", "/tmp/go")
    await pods.kubectl("wait", "--for=condition=complete", "job/x", WITHIN)
    assert (await pods.json("get", "job", "x"))["status"]["succeeded"] == 3
    assert len(await names(pods, "Succeeded")) == 3
    told = await pods.kubectl("logs", "-l", "app=x", "--prefix")
    assert sorted(line.split()[-1] for line in told.stdout.splitlines()) == ["done"] * 3


@pytest.mark.story("Jobs with parallelism and back-off limits")
async def test_a_job_fails_for_its_back_off_limit_when_its_container_fails_twice(pods, node):
    template = pods.template(container=shell("exit 1"))
    await apply(pods, "batch/v1", "Job", {"backoffLimit": 1, "template": template})
    await pods.kubectl("wait", "--for=condition=failed", "job/x", WITHIN)
    status = (await pods.json("get", "job", "x"))["status"]
    (failed,) = [each for each in status["conditions"] if each["type"] == "Failed"]
    assert failed["reason"] == "BackoffLimitExceeded"
    assert status["failed"] == 2


@pytest.mark.story("A Deployment scaled up and down, a StatefulSet")
async def test_pods_come_and_go_when_a_deployment_is_scaled(pods, node):
    await apply(pods, "apps/v1", "Deployment", lasting(pods, 1))
    await pods.kubectl("rollout", "status", "deployment/x", WITHIN)
    first = await until_pods(pods, 1)
    await pods.kubectl("scale", "deployment/x", "--replicas=2")
    await pods.kubectl("rollout", "status", "deployment/x", WITHIN)
    assert set(first) < set(await until_pods(pods, 2))
    await pods.kubectl("scale", "deployment/x", "--replicas=0")
    await until_pods(pods, 0)


@pytest.mark.story("A Deployment scaled up and down, a StatefulSet")
async def test_a_stateful_set_runs_numbered_pods_when_it_has_two_replicas(pods, node):
    await apply(pods, "apps/v1", "StatefulSet", lasting(pods, 2, serviceName="x"))
    await pods.kubectl("rollout", "status", "statefulset/x", WITHIN)
    assert await names(pods) == ["x-0", "x-1"]
    hostname = await pods.kubectl("exec", "x-1", "--", "hostname")
    assert hostname.stdout == "x-1\n"


@pytest.mark.story("A CronJob")
async def test_a_cron_job_completes_when_it_is_started_by_hand(pods, node):
    template = pods.template(container=shell("echo now"))
    await apply(
        pods, "batch/v1", "CronJob",
        {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}},
    )  # fmt: skip
    await pods.kubectl("create", "job", "--from=cronjob/x", "by-hand")
    await pods.kubectl("wait", "--for=condition=complete", "job/by-hand", WITHIN)
    assert (await pods.kubectl("logs", "job/by-hand")).stdout == "now\n"


@pytest.mark.story("Cordon and drain")
async def test_a_deployment_waits_for_its_node_when_that_is_drained(pods, node):
    await apply(pods, "apps/v1", "Deployment", lasting(pods, 1))
    (first,) = await until_pods(pods, 1)
    drained = await pods.kubectl("drain", node, "--ignore-daemonsets", "--force", WITHIN)
    assert f"pod/{first} evicted" in drained.stdout
    assert await pods.get(first) is None
    (waiting,) = await wait_for(
        lambda: names(pods, "Pending"), timeout_s=WITHIN_S, what="a pod in the other's place"
    )
    await pods.until_event(waiting, "FailedScheduling", "unschedulable")
    await pods.kubectl("uncordon", node)
    assert await until_pods(pods, 1) == [waiting]
