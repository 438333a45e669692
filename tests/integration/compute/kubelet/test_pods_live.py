"""A pod's life on a virtual node of a real control plane, through both interLink hops."""

import base64
import json

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


@pytest.mark.story("After create the pod has annotation JobID; it runs, succeeds, is deleted")
async def test_runs_and_succeeds_when_the_job_does(pods, node, house):
    uid = await pods.create()
    job = await house.until_job(uid)
    queued = await pods.until(
        "train-0", lambda pod: pod["status"].get("containerStatuses"), "the queued status"
    )
    assert queued["status"]["phase"] == "Pending"
    house.site.start(uid)
    running = await pods.until_phase("train-0", "Running")
    assert running["status"]["podIP"]
    assert running["metadata"]["annotations"]["JobID"]
    assert {c["type"]: c["status"] for c in running["status"]["conditions"]}["Ready"] == "True"
    house.site.finish(uid)
    ended = await pods.until_phase("train-0", "Succeeded")
    state = ended["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (0, "Completed")
    await pods.until_event("train-0", "ProviderCreateSuccess")
    await pods.kubectl("delete", "pod", "train-0")
    await pods.until_gone()
    assert house.site.submissions == [job.spec.name]


@pytest.mark.story(
    "Exit 42 gives Failed with exitCode 42 and the plug-in's reason kept (OOMKilled)"
)
async def test_fails_with_the_sites_reason_when_the_job_was_killed(pods, node, house):
    uid = await pods.create()
    await house.until_job(uid)
    house.site.start(uid)
    house.site.finish(uid, 42, reason="OOMKilled")
    pod = await pods.until_phase("train-0", "Failed")
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (42, "OOMKilled")


@pytest.mark.story("4xx is ProviderFailed at once, with the site's text, by an event too")
async def test_fails_at_once_with_the_text_when_the_site_refuses(pods, node, house):
    await pods.create(container={"image": "missing:1"})
    pod = await pods.until_phase("train-0", "Failed")
    assert pod["status"]["reason"] == "ProviderFailed"
    assert "spec.containers[0].image" in pod["status"]["message"]
    (told,) = await pods.until_event("train-0", "ProviderCreateFailed")
    assert "missing:1" in told
    await pods.kubectl("delete", "pod", "train-0")
    await pods.until_gone()


@pytest.mark.story("What cannot be honoured is refused with an event that names the field")
async def test_names_the_field_when_it_cannot_be_honoured(pods, node, house):
    await pods.create(hostNetwork=True)
    await pods.until_event("train-0", "ProviderCreateFailed", "spec.hostNetwork")


@pytest.mark.story("Queue reason and position as events")
async def test_tells_by_an_event_why_the_pod_queues(pods, node, house):
    await pods.create()
    await pods.until_event("train-0", "Priority", "number 1 in the queue")


@pytest.mark.story("Deletion with grace ends the job before Kubernetes forgets the pod")
async def test_ends_the_job_first_when_the_pod_is_deleted(pods, node, house):
    uid = await pods.create()
    job = await house.until_job(uid)
    house.site.start(uid)
    await pods.until_phase("train-0", "Running")
    await pods.kubectl("delete", "pod", "train-0", "--grace-period=2")
    await pods.until_gone()
    assert job.cancels == 1


@pytest.mark.story("Force deletion: the job is ended all the same")
async def test_ends_the_job_when_the_pod_is_deleted_by_force(pods, node, house):
    uid = await pods.create()
    job = await house.until_job(uid)
    house.site.start(uid)
    await pods.until_phase("train-0", "Running")
    await pods.kubectl("delete", "pod", "train-0", "--force", "--grace-period=0")
    await house.until(lambda: job.cancels)


@pytest.mark.story("Stuck on a missing ConfigMap: named by an event, others go on, deletion works")
async def test_waits_by_name_when_a_config_map_is_missing(pods, node, house):
    volumes = [{"name": "cfg", "configMap": {"name": "late"}}]
    mounts = [{"name": "cfg", "mountPath": "/cfg"}]
    uid = await pods.create(volumes=volumes, container={"volumeMounts": mounts})
    await pods.create("doomed", volumes=[{"name": "cfg", "configMap": {"name": "never"}}])
    await pods.until_event("train-0", "FailedMount", 'configmap "late" not found')
    other = await pods.create("other")
    await house.until_job(other)
    assert house.job(uid) is None
    await pods.kubectl("delete", "pod", "doomed")
    await pods.until_gone("doomed")
    await pods.kubectl("create", "configmap", "late", "--from-literal=a.ini=x=1")
    await house.until_job(uid)


@pytest.mark.story("never two at once")
async def test_is_not_handed_over_when_somebody_has_failed_it_meanwhile(pods, node, house):
    needs = {"envFrom": [{"configMapRef": {"name": "late"}}]}
    uid = await pods.create(container=needs)
    await pods.until_event("train-0", "Failed", 'configmap "late" not found')
    failed = json.dumps({"status": {"phase": "Failed", "reason": "Evicted"}})
    status = ("patch", "pod", "train-0", "--subresource=status", "--type=merge", "-p", failed)
    await pods.kubectl(*status)
    await pods.kubectl("create", "configmap", "late", "--from-literal=a=1")
    for name in ("train-1", "train-2"):  # each takes as long as the first one's next try
        other = await pods.create(name, container=needs)
        await house.until_job(other)
        house.site.start(other)
        house.site.finish(other)
        await pods.until_phase(name, "Succeeded")
    assert house.job(uid) is None
    assert (await pods.get("train-0"))["status"]["reason"] == "Evicted"


@pytest.mark.story("Everything that a pod carries arrives: variables, files, tokens, services")
async def test_all_sources_arrive_when_a_pod_has_them(pods, node, house, control_plane):
    await pods.kubectl("create", "secret", "generic", "s", "--from-literal=pass=a$(X)b 'q'\n")
    await pods.kubectl("create", "configmap", "c", '--from-literal=k={"a": 1}')
    await pods.kubectl("create", "service", "clusterip", "my-db", "--tcp=5432:5432")
    env = [
        {"name": "X", "value": "no"},
        {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pass"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    projected = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "there"}},
        {"configMap": {"name": "kube-root-ca.crt"}},
        {"secret": {"name": "s", "items": [{"key": "pass", "path": "deep/pass"}]}},
    ]
    volumes = [
        {"name": "all", "projected": {"sources": projected}},
        {"name": "cfg", "configMap": {"name": "c"}},
        {
            "name": "info",
            "downwardAPI": {"items": [{"path": "uid", "fieldRef": {"fieldPath": "metadata.uid"}}]},
        },
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    container = {"env": env, "envFrom": [{"configMapRef": {"name": "c"}}], "volumeMounts": mounts}
    uid = await pods.create(container=container, volumes=volumes)
    plan = (await house.until_job(uid)).spec.plan
    (main,) = plan.containers
    assert main.launch.env["PASS"] == "a$(X)b 'q'\n"
    assert main.launch.env["NODE"] == pods.node
    assert main.launch.env["k"] == '{"a": 1}'
    assert main.launch.env["MY_DB_SERVICE_PORT"] == "5432"
    body = (await house.kept(uid)).body
    (given,) = body["container"]
    projected = {entry["metadata"]["name"]: entry["data"] for entry in given["projectedvolumemaps"]}
    assert projected["all"]["ca.crt"] == control_plane.ca.read_text()
    assert projected["all"]["deep/pass"] == "a$(X)b 'q'\n"
    assert projected["info"]["uid"] == uid
    claims = projected["all"]["token"].split(".")[1]
    assert b'"there"' in base64.urlsafe_b64decode(claims + "==")
    assert given["configMaps"][0]["data"] == {"k": '{"a": 1}'}


@pytest.mark.story("Init containers: Init:i/n while running, failure fails the pod")
async def test_fails_when_an_init_container_does(pods, node, house):
    inits = [{"name": "first", "image": "a", "command": ["false"]}]
    uid = await pods.create(initContainers=inits)
    await house.until_job(uid)
    house.site.start(uid)
    house.site.finish(uid, 3)
    pod = await pods.until_phase("train-0", "Failed")
    assert [entry["name"] for entry in pod["status"]["initContainerStatuses"]] == ["first"]
