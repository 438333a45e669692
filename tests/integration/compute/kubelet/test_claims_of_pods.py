"""Claims of unchanged pods: what their storage class means at a site of real containers."""

import pytest

from twinfra.testkit.images import BUSYBOX

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


@pytest.fixture
def house(local_house):
    return local_house


@pytest.fixture
def settings(settings, context, tmp_path):
    """Give out a folder to claims of class ``fast``."""
    (tmp_path / "claims").mkdir()
    with context.home.settings_file.open("a") as file:
        file.write(f'[sites.hpc-b.plugin.storage_classes.fast]\npath = "{tmp_path}/claims"\n')


@pytest.fixture
def classes(control_plane):
    """Make storage classes as the how-to has them; volumes are made by nobody, or by hand."""
    names = ("fast", "slow")
    for name in names:
        control_plane.apply(
            {
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                "metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner",
                "volumeBindingMode": "WaitForFirstConsumer",
            }
        )  # fmt: skip
    yield
    control_plane.kubectl("delete", "storageclass", *names)


def claim(name, storage_class):
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": storage_class}
    spec["resources"] = {"requests": {"storage": "1Gi"}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return {**body, "metadata": {"name": name}, "spec": spec}


def working(script, name="work"):
    """Return what a pod says to do this in a folder of its claim."""
    mounts = [{"name": "w", "mountPath": "/work"}]
    main = {"image": BUSYBOX, "command": ["sh", "-c", script], "volumeMounts": mounts}
    volumes = [{"name": "w", "persistentVolumeClaim": {"claimName": name}}]
    return {"container": main, "volumes": volumes}


async def succeeds(pods, name):
    ended = await pods.until_phase(name, "Succeeded", "Failed")
    assert ended["status"]["phase"] == "Succeeded", ended["status"]


@pytest.mark.story("PVC by storage class mapped to a site path or to a dataset")
async def test_a_file_in_a_claim_outlives_its_pod(pods, node, classes):
    await pods.apply(claim("work", "fast"))
    await pods.create("writer", **working("echo kept > /work/f"))
    await succeeds(pods, "writer")
    await pods.kubectl("delete", "pod", "writer")
    await pods.create("reader", **working("cat /work/f"))
    await succeeds(pods, "reader")
    assert (await pods.kubectl("logs", "reader")).stdout == "kept\n"


@pytest.mark.story("a claim of a class that the site does not map is refused, the field named")
async def test_a_claim_of_another_class_is_refused_by_name(pods, node, classes):
    await pods.apply(claim("work", "slow"))
    manifest = pods.manifest(**working("true"))
    claimed = '{"work": {"storageClassName": "fast"}}'
    manifest["metadata"]["annotations"] = {"twinfra.io/claims": claimed}
    await pods.apply(manifest)
    (told,) = await pods.until_event("train-0", "ProviderCreateFailed", "slow")
    assert "spec.volumes[0].persistentVolumeClaim" in told
    await pods.until_phase("train-0", "Failed")


@pytest.mark.story("a missing claim is waited for, with an event naming it")
async def test_a_missing_claim_is_waited_for_by_name(pods, node, classes):
    await pods.create(**working("true", name="late"))
    await pods.until_event("train-0", "FailedMount", 'persistentvolumeclaim "late" not found')
    await pods.apply(claim("late", "fast"))
    await succeeds(pods, "train-0")


@pytest.mark.story("the scheduler waits by name for a claim's volume, which an operator makes")
async def test_a_scheduled_pod_goes_on_when_its_claim_has_a_volume(
    pods, node, classes, control_plane
):
    await pods.apply(claim("work", "fast"))
    manifest = pods.manifest(bound=False, **working("echo kept > /work/f"))
    manifest["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    await pods.apply(manifest)
    await pods.until_event("train-0", "FailedScheduling", "persistent volumes to bind")
    name = f"work-{pods.namespace}"
    spec = {
        "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
        "storageClassName": "fast", "hostPath": {"path": "/nowhere"},
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": pods.namespace, "name": "work"},
    }  # fmt: skip
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
    control_plane.apply({**volume, "spec": spec})
    try:
        await succeeds(pods, "train-0")
    finally:
        control_plane.kubectl("delete", "pv", name, "--wait=false")
