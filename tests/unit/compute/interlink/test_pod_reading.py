"""What a pod asks for: honoured, or refused by the field's name."""

import copy
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.compute.containers.images.model import ImageConfig, UnpackedImage
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.interlink.model.create import RetrievedPodData
from twinfra.compute.interlink.pods.environment import expand
from twinfra.compute.interlink.pods.places import Places, clear, lay
from twinfra.compute.interlink.pods.plan import Ground, job_of
from twinfra.compute.interlink.pods.read import Defaults, read_pod
from twinfra.core.errors import InvalidRequest, SiteRejected, TwinfraError

UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"
POD = {
    "metadata": {"name": "train-0", "namespace": "ml", "uid": UID, "annotations": {}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "python:3"}]},
}


MOUNTED = {"volumeMounts": [{"name": "c", "mountPath": "/c"}]}


def read(change=None, *, objects=None, annotations=None, **spec):
    pod = copy.deepcopy(POD)
    pod["spec"] |= spec
    pod["spec"]["containers"][0] |= change or {}
    pod["metadata"]["annotations"] = annotations or {}
    return read_pod(RetrievedPodData.from_wire({"pod": pod, "container": objects}))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"volumeDevices": [{"name": "x"}]}, "volumeDevices"),
        ({"ports": [{"containerPort": 80, "hostPort": 80}]}, "hostPort"),
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}, "capabilities.add"),
        ({"securityContext": {"seccompProfile": {"type": "Localhost"}}}, "seccompProfile"),
        ({"resources": {"limits": {"ephemeral-storage": "1Gi"}}}, "ephemeral-storage"),
        ({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}, "hugepages-2Mi"),
        ({"readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}, "scheme"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}, "fieldPath"),
    ],
)
def test_a_container_field_is_refused_by_name_when_it_cannot_be_honoured(change, field):
    with pytest.raises(SiteRejected, match=field.replace(".", r"\.")):
        read(change, volumes=[{"name": "v", "emptyDir": {}}])


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"hostPID": True}, "spec.hostPID"),
        ({"runtimeClassName": "kata"}, "spec.runtimeClassName"),
        ({"os": {"name": "windows"}}, "spec.os.name"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "spec.volumes[0].hostPath"),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
            "spec.volumes[0].persistentVolumeClaim",
        ),
    ],
)
def test_a_pod_field_is_refused_by_name_when_it_cannot_be_honoured(spec, field):
    with pytest.raises(SiteRejected) as refusal:
        read(**spec)
    assert field in refusal.value.detail
    assert field in refusal.value.errors[0]["field"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Main"}, "name"),
        ({"image": ""}, "image"),
        ({"command": "sh"}, "command"),
        ({"workingDir": "relative"}, "workingDir"),
        ({"env": [{"name": "A=B", "value": "x"}]}, "env"),
        ({"volumeMounts": [{"name": "nowhere", "mountPath": "/v"}]}, "nowhere"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/a/../etc"}]}, "mountPath"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "../x"}]}, "subPath"),
        ({"resources": {"limits": {"cpu": "lots"}}}, "cpu"),
        ({"readinessProbe": {"httpGet": {"port": "nameless"}}}, "port"),
        ({"securityContext": {"runAsUser": "root"}}, "runAsUser"),
    ],
)
def test_a_malformed_field_is_named(change, field):
    with pytest.raises(InvalidRequest, match=field):
        read(change, volumes=[{"name": "v", "emptyDir": {}}])


def test_what_only_concerns_a_scheduler_passes():
    read(
        {"imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log"},
        nodeName="n", schedulerName="s", serviceAccountName="default", priority=0,
        tolerations=[{"key": "x"}], affinity={"nodeAffinity": {}}, dnsPolicy="ClusterFirst",
        enableServiceLinks=True, automountServiceAccountToken=False, preemptionPolicy="Never",
    )  # fmt: skip


def test_restart_policy_is_always_when_none_is_given():
    pod = copy.deepcopy(POD)
    del pod["spec"]["restartPolicy"]
    assert read_pod(RetrievedPodData(pod)).live


def test_resources_add_up_and_init_containers_share_them():
    one = {"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}
    gpu = {"resources": {"limits": {"cpu": "2", "memory": "512Mi", "nvidia.com/gpu": "1"}}}
    request = read(
        one,
        containers=[{"name": "a", "image": "x", **one}, {"name": "b", "image": "x", **gpu}],
        initContainers=[
            {"name": "i", "image": "x", "resources": {"limits": {"cpu": "4", "memory": "1Mi"}}}
        ],
    )
    assert (request.cpus, request.memory_bytes) == (4.0, (1 << 30) + (512 << 20))
    assert request.gpus == {"nvidia.com/gpu": 1}
    assert request.containers[1].limits.cpu == 2.0
    assert request.containers[0].limits.memory_bytes is None


def test_the_sites_defaults_hold_when_nothing_is_asked():
    request = read_pod(RetrievedPodData(POD), Defaults(cpus=3, memory_bytes=7))
    assert (request.cpus, request.memory_bytes) == (3, 7)


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(NONE) $(date +%s)", "$(NONE) $(date +%s)"),
        ("`$(A)`; rm -rf $HOME $$", "`1`; rm -rf $HOME $"),
        ("", ""),
    ],
)
def test_references_are_replaced_as_kubernetes_does(given, expanded):
    assert expand(given, {"A": "1"}) == expanded


def test_env_command_and_args_refer_to_what_came_before():
    request = read(
        {
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)2"},
                {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            ],
            "command": ["run", "$(B)"],
            "args": ["$(UID)", "--quote=\"'"],
        }
    )
    (main,) = request.containers
    assert main.env == {"A": "1", "B": "12", "UID": UID}
    assert (main.command, main.args) == (("run", "12"), (UID, "--quote=\"'"))


def test_data_is_seen_at_its_places():
    request = read(
        annotations={
            "twinfra.io/inputs": "climate:scenarios, climate:model",
            "twinfra.io/outputs": "climate:model,climate:plots",
            "twinfra.io/mounts": "climate:scenarios=/in/a",
        }
    )
    targets = {mount.did: str(mount.target) for mount in request.inputs}
    assert targets == {"climate:scenarios": "/in/a", "climate:model": "/data/climate/model"}
    model, plots = request.outputs
    assert (str(model.target), model.also) == ("/outputs/climate/model", None)
    assert plots.also == PurePosixPath("/data/climate/plots")


@pytest.mark.parametrize(
    "hint", [{"inputs": "nocolon"}, {"outputs": "a:../b"}, {"mounts": "a:b"}, {"mounts": "a:b=rel"}]
)
def test_data_hints_are_refused_when_they_are_malformed(hint):
    annotations = {f"twinfra.io/{key}": value for key, value in hint.items()}
    with pytest.raises(InvalidRequest, match="twinfra"):
        read(annotations={"twinfra.io/inputs": "a:b", **annotations})


class Plain:
    name = "plain"

    def launch(self, spec):
        self.spec = spec
        return Launch((), spec.command)


def image(**config):
    return UnpackedImage("python:3", "sha256:0", Path("/root"), ImageConfig(**config), uid=1000)


def test_a_plan_holds_image_pod_and_own_settings(tmp_path):
    maps = {"metadata": {"name": "maps"}, "data": {"a": "x"}}
    objects = [{"name": "main", "configMaps": [maps]}]
    request = read(
        {
            "args": ["go"],
            "volumeMounts": [
                {"name": "c", "mountPath": "/etc/app/a.ini", "subPath": "a"},
                {"name": "e", "mountPath": "/scratch"},
            ],
            "env": [{"name": "X", "value": "pod"}],
        },
        objects=objects,
        volumes=[{"name": "c", "configMap": {"name": "maps"}}, {"name": "e", "emptyDir": {}}],
        activeDeadlineSeconds=100,
        annotations={"twinfra.io/inputs": "climate:a", "twinfra.io/outputs": "climate:b"},
    )
    places, runtime = Places(tmp_path / UID, 2), Plain()
    lay(request, places)
    ground = Ground(runtime, isolated=True, network="none", wall_limit_s=50)
    config = {"entrypoint": ("python",), "cmd": ("-h",), "env": {"X": "image", "Y": "image"}}
    job = job_of(request, places, {"python:3": image(**config)}, ground)
    assert (job.name, job.wall_limit_s) == (f"{UID}.2", 50)
    assert (job.plan.network, job.plan.attempt) == ("none", 2)
    spec = runtime.spec
    assert spec.command == ("python", "go")
    assert (spec.env["X"], spec.env["Y"]) == ("pod", "image")
    assert spec.env["TWINFRA_INPUTS"] == "/data/climate/a"
    assert spec.env["TWINFRA_OUTPUTS"] == "/outputs/climate/b"
    by_target = {str(mount.target): mount for mount in spec.mounts}
    assert by_target["/etc/app/a.ini"].source.read_bytes() == b"x"
    assert by_target["/etc/app/a.ini"].read_only
    assert not by_target["/scratch"].read_only
    assert by_target["/data/climate/a"].read_only
    assert not by_target["/data/climate/b"].read_only
    assert by_target["/outputs/climate/b"].source == by_target["/data/climate/b"].source
    assert all(mount.source.exists() for mount in spec.mounts)
    clear(places.job_dir)
    assert not places.job_dir.exists()


def test_without_isolation_the_hosts_network_is_all_there_is():
    assert Ground(Plain(), isolated=False, network="none").effective_network == "host"


def test_run_as_non_root_is_refused_when_the_image_is_root(tmp_path):
    request = read({"securityContext": {"runAsNonRoot": True}})
    root = UnpackedImage("python:3", "sha256:0", Path("/root"), ImageConfig(cmd=("x",)))
    ground = Ground(Plain(), isolated=True, network="none")
    with pytest.raises(SiteRejected, match="runAsNonRoot"):
        job_of(request, Places(tmp_path, 1), {"python:3": root}, ground)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ({"name": "absent"}, "did not come"),
        ({"name": "maps", "items": [{"key": "none", "path": "x"}]}, "has no 'none'"),
        ({"name": "maps", "items": [{"key": "a", "path": "../x"}]}, "stay within"),
        ({"name": "maps", "defaultMode": 0o7777}, "mode"),
    ],
)
def test_config_maps_are_refused_when_they_do_not_fit(source, fault):
    maps = [{"name": "main", "configMaps": [{"metadata": {"name": "maps"}, "data": {"a": "x"}}]}]
    with pytest.raises(InvalidRequest, match=fault):
        read(MOUNTED, objects=maps, volumes=[{"name": "c", "configMap": source}])


def test_an_optional_object_may_be_missing():
    absent = {"name": "absent", "optional": True}
    assert read(MOUNTED, volumes=[{"name": "c", "configMap": absent}]).volumes[0].files == ()


@pytest.mark.parametrize(
    "volume",
    [
        {"configMap": {"name": "absent"}},
        {"secret": {"secretName": "absent"}},
        {"projected": {"sources": [{"configMap": {"name": "absent"}}]}},
        {"downwardAPI": {"items": []}},
    ],
)
def test_nobody_misses_the_objects_of_a_volume_that_nobody_mounts(volume):
    (found,) = read(volumes=[{"name": "c", **volume}]).volumes
    assert found.files == ()
    with pytest.raises(InvalidRequest, match="did not come"):
        read(MOUNTED, volumes=[{"name": "c", **volume}])


KEYS = st.sampled_from(
    [
        "containers", "name", "image", "env", "value", "volumes", "configMap", "items", "ports",
        "resources", "limits", "cpu", "securityContext", "volumeMounts", "mountPath", "emptyDir",
        "readinessProbe", "httpGet", "port", "initContainers", "command", "os", "capabilities",
    ]
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70000) | st.sampled_from(["main", "/x", "..", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, JUNK, max_size=5), st.dictionaries(KEYS, JUNK, max_size=5), JUNK)
def test_junk_is_refused_never_crashed_on(spec, container, objects):
    pod = copy.deepcopy(POD)
    pod["spec"]["containers"][0] |= container
    pod["spec"] |= {key: value for key, value in spec.items() if key != "containers"}
    try:
        read_pod(RetrievedPodData.from_wire({"pod": pod, "container": objects}))
    except TwinfraError:
        return
