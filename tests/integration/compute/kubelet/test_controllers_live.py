"""Kubernetes' own controllers over a virtual node whose site runs each job for a moment."""

import pytest

from twinfra.compute.sites.mock import MockSettings, MockSite
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
WITHIN_S = 90.0


@pytest.fixture
def backend():
    return MockSite(MockSettings(queue_s=0.1, run_s=1.0))


def job(pods, name, **spec):
    body = {"template": pods.template(annotations=spec.pop("annotations", None)), **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body}


async def until(pods, kind, name, test):
    async def reached():
        body = await pods.json("get", kind, name)
        return body if test(body.get("status", {})) else None

    return await wait_for(reached, timeout_s=WITHIN_S, what=f"{kind} {name}")


@pytest.mark.story("Jobs with parallelism and back-off limits")
async def test_a_job_completes_when_its_pods_do_and_fails_at_its_limit(pods, node):
    await pods.apply(job(pods, "many", completions=4, parallelism=2))
    failing = {"mock.twinfra.io/exit-code": "3"}
    await pods.apply(job(pods, "broken", backoffLimit=1, annotations=failing))
    await until(pods, "job", "many", lambda status: status.get("succeeded") == 4)
    status = (await until(pods, "job", "broken", lambda s: s.get("failed", 0) >= 2))["status"]
    assert status["failed"] == 2


@pytest.mark.story("A Deployment scaled up and down, a StatefulSet")
async def test_a_deployment_and_a_stateful_set_scale_when_asked(pods, node):
    lasting = {"mock.twinfra.io/run-s": "600"}
    for kind in ("Deployment", "StatefulSet"):
        spec = {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "x"}},
            "template": pods.template(annotations=lasting, restartPolicy="Always"),
        }
        if kind == "StatefulSet":
            spec["serviceName"] = "x"
        name = kind.lower()
        await pods.apply(
            {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        )
        await until(pods, name, name, lambda status: status.get("readyReplicas") == 2)
        await pods.kubectl("scale", f"{name}/{name}", "--replicas=1")
        await until(
            pods, name, name,
            lambda status: status.get("readyReplicas") == status.get("replicas") == 1,
        )  # fmt: skip
        await pods.kubectl("delete", name, name, "--wait=true")


@pytest.mark.story("A CronJob")
async def test_a_cron_job_makes_jobs_when_triggered(pods, node):
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job(pods, "x")["spec"]}}
    await pods.apply(
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"}, "spec": spec}
    )
    await pods.kubectl("create", "job", "--from=cronjob/cron", "now")
    await until(pods, "job", "now", lambda status: status.get("succeeded") == 1)
