"""Fields of pods on a site with real keepers: what was asked for is what the container sees."""

import base64
import json
import os
import re

import pytest

from twinfra.compute.interlink.client import PodCreateRequest, PodPhase
from twinfra.core.errors import SiteRejected

SITE = "hpc-b"


@pytest.fixture
def settings(settings, context, tmp_path):
    """Some folders of the site that pods may have."""
    for name in ("shared", "claims"):
        (tmp_path / name).mkdir()
    (tmp_path / "shared" / "sub").mkdir()
    (tmp_path / "shared" / "sub" / "file").write_text("of the site\n")
    (tmp_path / "shared" / "way-out").symlink_to("/etc")
    with context.home.settings_file.open("a") as file:
        file.write(
            f'[sites.{SITE}.plugin]\nhost_paths = {{ "{tmp_path}/shared" = "ro" }}\n'
            f'[sites.{SITE}.plugin.storage_classes.fast]\npath = "{tmp_path}/claims"\n'
        )


def lines(site, pod):
    found = site.output(pod["metadata"]["uid"]).splitlines()
    return [line.split(b" ", 3)[3].decode() for line in found]


async def ended(site, pod, **objects):
    await site.client().create(PodCreateRequest(pod, **objects))
    report = await site.until(pod, PodPhase.SUCCEEDED, PodPhase.FAILED, timeout_s=60)
    return report, lines(site, pod)


def mount(name, path, **more):
    return {"name": name, "mountPath": path, **more}


@pytest.mark.story("emptyDir (also medium Memory), subPath, items and modes")
@pytest.mark.story("workingDir")
async def test_volumes_in_memory_and_parts_of_volumes_are_shared(site, make_pod):
    init = {
        "name": "prepare", "image": "busybox:latest",
        "command": ["sh", "-c", "echo from-init > /all/a/deep/f; echo kept > /mem/m"],
        "volumeMounts": [mount("v", "/all"), mount("v", "/part", subPath="a/deep"),
                         mount("mem", "/mem")],
    }  # fmt: skip
    script = (
        "cat /part/f /mem/m; df -k /mem | tail -1 | awk '{print $2}'; echo new > /part/g;"
        "cat /all/a/deep/g; grep db.local /etc/hosts; touch /tmp/x 2>&1 | head -1;"
        "dd if=/dev/zero of=/mem/big bs=1M count=3 2>/dev/null || echo full; pwd; cat f"
    )
    container = {
        "volumeMounts": [mount("v", "/all"), mount("v", "/part", subPathExpr="$(A)/deep"),
                         mount("mem", "/mem")],
        "env": [{"name": "A", "value": "a"}],
        "securityContext": {"readOnlyRootFilesystem": True},
        "workingDir": "/part",
    }  # fmt: skip
    pod = make_pod(
        script, container=container, initContainers=[_same_image(init, make_pod)],
        volumes=[{"name": "v", "emptyDir": {}},
                 {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}}],
        hostAliases=[{"ip": "10.1.2.3", "hostnames": ["db.local"]}],
    )  # fmt: skip
    report, found = await ended(site, pod)
    assert report.phase is PodPhase.SUCCEEDED, report
    assert found[:4] == ["from-init", "kept", "2048", "new"]
    assert found[4] == "10.1.2.3 db.local"
    assert found[5].startswith("touch: ")  # no writable place but the volumes
    assert found[6:] == ["full", "/part", "from-init"]


def _same_image(init, make_pod):
    return {**init, "image": make_pod("true")["spec"]["containers"][0]["image"]}


async def test_a_link_in_a_volume_leads_nowhere(site, make_pod):
    init = {
        "name": "prepare", "command": ["ln", "-s", "/etc", "/all/part"],
        "volumeMounts": [mount("v", "/all")],
    }  # fmt: skip
    container = {"volumeMounts": [mount("v", "/part", subPath="part")]}
    pod = make_pod(
        "cat /part/hostname", container=container, initContainers=[_same_image(init, make_pod)],
        volumes=[{"name": "v", "emptyDir": {}}],
    )  # fmt: skip
    report, _ = await ended(site, pod)
    assert (report.phase, report.containers[0].reason) == (PodPhase.FAILED, "StartError")


@pytest.mark.story("hostPath by allow-list")
async def test_a_folder_of_the_site_is_seen_and_not_written(site, make_pod, tmp_path):
    path = f"{tmp_path}/shared/sub"
    container = {"volumeMounts": [mount("h", "/h")]}
    volumes = [{"name": "h", "hostPath": {"path": path, "type": "Directory"}}]
    script = "cat /h/file; touch /h/x || echo refused"
    _, found = await ended(site, make_pod(script, container=container, volumes=volumes))
    assert found[0] == "of the site"
    assert "refused" in found
    volumes = [{"name": "h", "hostPath": {"path": f"{tmp_path}/shared/way-out"}}]
    pod = make_pod("ls /h", container=container, volumes=volumes)
    await site.client().create(PodCreateRequest(pod))
    report = await site.until(pod, PodPhase.FAILED)
    assert "leads out" in report.message


@pytest.mark.story("PVC by storage class mapped to a site path or to a dataset")
async def test_a_claim_outlives_its_pods(site, make_pod):
    known = {"twinfra.io/claims": json.dumps({"work": {"storageClassName": "fast"}})}
    volumes = [{"name": "c", "persistentVolumeClaim": {"claimName": "work"}}]
    container = {"volumeMounts": [mount("c", "/w", subPath="user-1")]}
    for script in ("echo kept > /w/f", "cat /w/f"):
        pod = make_pod(script, container=container, volumes=volumes, annotations=known)
        report, found = await ended(site, pod)
        assert report.phase is PodPhase.SUCCEEDED
    assert found == ["kept"]


@pytest.mark.story("securityContext runAsUser/fsGroup checked against the mapping")
async def test_22_the_sites_own_user_runs_and_another_is_refused_by_name(site, make_pod):
    own, other = os.geteuid(), os.geteuid() + 4321
    groups = {"runAsGroup": os.getegid(), "fsGroup": os.getegid()}
    mapped = make_pod(
        "id -u; id -g", container={"securityContext": {"runAsUser": own}}, securityContext=groups
    )
    report, found = await ended(site, mapped)
    assert report.phase is PodPhase.SUCCEEDED, report
    assert found == [str(own), str(os.getegid())]
    refused = {
        "spec.containers[0].securityContext.runAsUser": {
            "container": {"securityContext": {"runAsUser": other}}
        },
        "spec.securityContext.runAsUser": {"securityContext": {"runAsUser": other}},
        "spec.securityContext.fsGroup": {"securityContext": {"fsGroup": other}},
    }
    for field, asked in refused.items():
        with pytest.raises(SiteRejected, match=re.escape(field)):
            await site.client().create(PodCreateRequest(make_pod("true", **asked)))


@pytest.mark.story("env (valueFrom, envFrom, downward API)")
async def test_variables_arrive_byte_exact_through_both_hops(site, make_pod):
    value = "$(id) `id` \"'\\ \n#SBATCH -p x"
    secret = {"metadata": {"name": "s"}, "data": {"V": base64.b64encode(value.encode()).decode()}}
    container = {"envFrom": [{"secretRef": {"name": "s"}}]}
    pod = make_pod('printf "%s" "$V" | od -An -tx1 | tr -d " \\n"', container=container)
    _, found = await ended(site, pod, secrets=(secret,))
    assert bytes.fromhex(found[0]).decode() == value


async def test_a_pod_that_keeps_too_much_is_evicted(site, make_pod):
    container = {"volumeMounts": [mount("v", "/v")]}
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    script = "dd if=/dev/zero of=/v/x bs=1M count=8; sleep 1000"
    report, _ = await ended(site, make_pod(script, container=container, volumes=volumes))
    assert (report.phase, report.reason) == (PodPhase.FAILED, "Evicted")


@pytest.mark.story("preStop/postStart")
async def test_hooks_run_through_both_hops(site, make_pod):
    hooks = {"postStart": {"exec": {"command": ["sh", "-c", "echo started >> /proc/1/fd/1"]}},
             "preStop": {"exec": {"command": ["touch", "/tmp/asked"]}}}  # fmt: skip
    script = "trap 'ls /tmp/asked; exit 0' TERM; while :; do sleep 0.1; done"
    pod = make_pod(script, container={"lifecycle": hooks}, terminationGracePeriodSeconds=20)
    await site.client().create(PodCreateRequest(pod))
    await site.until(pod, PodPhase.RUNNING)
    await site.keeper(pod["metadata"]["uid"]).cancel()
    await site.until(pod, PodPhase.SUCCEEDED, PodPhase.FAILED)
    assert "/tmp/asked" in lines(site, pod)
