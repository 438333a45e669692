"""The door judged by the real kubectl through the real API server, on a node made by hand."""

import asyncio
import contextlib
import json
import os
import ssl

import aiohttp
import pytest

from twinfra.compute.kubelet.door.wiring import build_door
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.config import access_of
from twinfra.core.ids import new_uuid
from twinfra.testkit.ports import free_port
from twinfra.testkit.waiting import wait_for

NEW = {}
OLD = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
WITHIN_S = 60
pytestmark = [pytest.mark.real("kubernetes"), pytest.mark.real("kubectl")]


class Ground:
    """A node whose kubelet API is our door, and a pod that Kubernetes takes for running."""

    def __init__(self, cluster, namespace, site, door):
        self.cluster, self.namespace, self.site, self.door = cluster, namespace, site, door

    async def kubectl(self, *args, stdin=None, env=NEW, code=0):
        process = await self.begin(*args, env=env, stdin=stdin is not None)
        out, err = await asyncio.wait_for(process.communicate(stdin), WITHIN_S)
        assert process.returncode == code, (process.returncode, out[-2000:], err[-2000:])
        return out, err

    async def begin(self, *args, env=NEW, stdin=False):
        command = self.cluster.kubectl_command("-n", self.namespace, *args)
        return await asyncio.create_subprocess_exec(
            *command,
            env={**self.cluster.environment, **env},
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@pytest.fixture(params=["websockets to the kubelet", "translated by the API server"])
async def ground(request, context, control_plane, kube_namespace, site_here):
    name = f"door-{new_uuid()[-8:]}"
    client = KubeClient.from_kubeconfig(control_plane.kubeconfig)
    pair = control_plane.kubelet_serving(name)
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(
        '[kubelet-api]\nlisten = "127.0.0.1"\ncertificate = "files"\nheartbeat_s = 0.5\n'
        f'certificate_file = "{pair.certfile}"\nkey_file = "{pair.keyfile}"\n'
    )
    door = await build_door(
        context, node=name, address="127.0.0.1", client=client, site=site_here.client
    )
    await door.start()
    features = ["ExtendWebSocketsToKubelet"] if "kubelet" in request.param else []
    node = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": door.port}},
        "declaredFeatures": features,
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "ByHand"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train-0"},
        "spec": {
            "nodeName": name,
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            "initContainers": [{"name": "fetch", "image": "x"}],
            "containers": [{"name": "main", "image": "x", "stdin": True, "tty": False}],
        },
    }
    began = "2030-01-01T00:00:00Z"
    running = {"running": {"startedAt": began}}
    ended = {"terminated": {"exitCode": 0, "startedAt": began, "containerID": "x://1"}}
    status = {
        "phase": "Running",
        "startTime": began,
        "containerStatuses": [entry("main", running)],
        "initContainerStatuses": [entry("fetch", ended)],
    }
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    await asyncio.to_thread(control_plane.apply, body)
    await patch(control_plane, "node", name, node)
    await asyncio.to_thread(control_plane.apply, pod, namespace=kube_namespace)
    await patch(control_plane, "pod", "train-0", status, "-n", kube_namespace)
    yield Ground(control_plane, kube_namespace, site_here, door)
    await door.close()
    await client.close()
    control_plane.kubectl(
        "-n", kube_namespace, "delete", "pod", "train-0", "--force", "--grace-period=0"
    )
    control_plane.kubectl("delete", "node", name)


def entry(name, state):
    return {
        "name": name, "image": "x", "imageID": "x", "ready": True, "restartCount": 0,
        "containerID": "x://1", "state": state, "lastState": {},
    }  # fmt: skip


async def patch(cluster, kind, name, status, *more):
    args = ("patch", kind, name, "--subresource=status", "--type=merge", "-p")
    await asyncio.to_thread(cluster.kubectl, *args, json.dumps({"status": status}), *more)


@pytest.mark.story("`kubectl logs/exec/attach/port-forward/cp/delete/drain`")
async def test_kubectl_logs_gives_what_each_option_asks_for(ground):
    for second in range(5):
        ground.site.say(f"2030-01-01T00:00:0{second}.000000000Z", f"line {second}")
    out, _ = await ground.kubectl("logs", "train-0")
    assert out == b"".join(f"line {n}\n".encode() for n in range(5))
    out, _ = await ground.kubectl("logs", "train-0", "--tail=2", "--timestamps")
    assert out == (
        b"2030-01-01T00:00:03.000000000Z line 3\n2030-01-01T00:00:04.000000000Z line 4\n"
    )
    out, _ = await ground.kubectl("logs", "train-0", "--tail=2", "--limit-bytes=9")
    assert out == b"line 3\nli"
    out, _ = await ground.kubectl("logs", "train-0", "--since-time=2030-01-01T00:00:04Z")
    assert out == b"line 4\n"
    out, _ = await ground.kubectl("logs", "train-0", "--tail=0")
    assert out == b""
    await ground.kubectl("logs", "train-0", "-c", "fetch")
    assert ground.site.asked[-1]["ContainerName"] == "fetch"
    _, err = await ground.kubectl("logs", "train-0", "--previous", code=1)
    assert b'previous terminated container "main" in pod "train-0" not found' in err


@pytest.mark.story("Log follow: a line is seen within 300 ms p99.")
async def test_kubectl_logs_follow_shows_a_line_at_once_and_ends_with_the_container(ground):
    ground.site.say("2030-01-01T00:00:00.000000000Z", "old")
    ground.site.log.get_nowait()
    process = await ground.begin("logs", "-f", "train-0", "--tail=0")
    await wait_for(lambda: len(ground.site.asked) == 2, timeout_s=WITHIN_S)
    ground.site.say("2030-01-01T00:00:01.000000000Z", "new")
    assert await asyncio.wait_for(process.stdout.readline(), WITHIN_S) == b"new\n"
    ground.site.say("", None)
    assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0


@pytest.mark.parametrize("env", [NEW, OLD], ids=["websocket", "spdy"])
@pytest.mark.story("**exec, attach and port-forward** into the running job")
async def test_kubectl_exec_carries_input_output_and_exit_code(ground, env):
    out, err = await ground.kubectl(
        "exec",
        "train-0",
        "-c",
        "main",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 42",
        env=env,
        code=42,
    )
    assert out == b"out\n"
    assert err.startswith(b"err\n")
    text = os.urandom(700_000)
    out, _ = await ground.kubectl("exec", "-i", "train-0", "--", "cat", stdin=text, env=env)
    assert out == text


@pytest.mark.parametrize("env", [NEW, OLD], ids=["websocket", "spdy"])
async def test_kubectl_attach_joins_the_process(ground, env):
    out, _ = await ground.kubectl("attach", "-i", "train-0", stdin=b"hello\n", env=env)
    assert out == b"hello\n"


@pytest.mark.parametrize("env", [NEW, OLD], ids=["websocket", "spdy"])
async def test_kubectl_port_forward_reaches_a_server_of_the_pod(ground, web_server, env):
    here = free_port()
    process = await ground.begin("port-forward", "train-0", f"{here}:{web_server}", env=env)
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        first = await asyncio.wait_for(process.stdout.readline(), WITHIN_S)
        assert b"Forwarding from" in first
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.get(f"http://127.0.0.1:{here}/path") as answer:
                    text = await answer.text()
                    assert text == "hello /path" + "x" * 300_000 + "\n"
    await process.wait()


@pytest.mark.parametrize("env", [NEW, OLD], ids=["websocket", "spdy"])
async def test_kubectl_port_forward_says_that_nobody_listens(ground, env):
    here, nobody = free_port(), free_port()
    process = await ground.begin("port-forward", "train-0", f"{here}:{nobody}", env=env)
    await asyncio.wait_for(process.stdout.readline(), WITHIN_S)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://127.0.0.1:{here}/")
    err = await asyncio.wait_for(process.stderr.readline(), WITHIN_S)
    assert b"error forwarding port" in err
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.mark.parametrize("env", [NEW, OLD], ids=["websocket", "spdy"])
async def test_kubectl_cp_copies_in_and_out(ground, tmp_path, env):
    source, there, back = tmp_path / "a.bin", tmp_path / "pod.bin", tmp_path / "b.bin"
    source.write_bytes(os.urandom(500_000))
    await ground.kubectl("cp", str(source), f"train-0:{there}", env=env)
    assert there.read_bytes() == source.read_bytes()
    await ground.kubectl("cp", f"train-0:{there}", str(back), env=env)
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("env", [NEW, OLD], ids=["websocket", "spdy"])
async def test_a_client_that_goes_away_ends_the_command(ground, env):
    process = await ground.begin("exec", "train-0", "--", "sleep", "1000", env=env)
    command = await wait_for(lambda: ground.site.processes[-1:], timeout_s=WITHIN_S)
    process.kill()
    await process.wait()
    assert await asyncio.wait_for(command[0].wait(), WITHIN_S) == -9


@pytest.mark.story("stats/summary and metrics/resource with real figures from the keeper")
async def test_figures_and_pods_are_for_those_whom_the_cluster_admits(ground):
    access = access_of(ground.cluster.kubeconfig)
    base = f"https://127.0.0.1:{ground.door.port}"

    async def get(path, **more):
        async with session.get(base + path, **more) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.text()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=access.tls)) as session:
        summary = json.loads(await get("/stats/summary"))
        (pod,) = summary["pods"]
        assert pod["podRef"]["name"] == "train-0"
        assert pod["containers"][0]["memory"]["workingSetBytes"] == 50 * 1024**2
        assert summary["node"]["cpu"]["usageCoreNanoSeconds"] == 11_000_000_000
        labels = f'{{container="main",namespace="{ground.namespace}",pod="train-0"}}'
        metrics = await get("/metrics/resource")
        assert f"container_cpu_usage_seconds_total{labels} 11.0 " in metrics
        for path in ("/pods", "/runningpods/"):
            listed = json.loads(await get(path))
            assert [item["metadata"]["name"] for item in listed["items"]] == ["train-0"]
        assert await get("/healthz") == "ok"
    robot = (await ground.kubectl("create", "token", "default"))[0].decode().strip()
    stranger = ssl.create_default_context(cafile=ground.cluster.ca)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=stranger)) as session:
        for token, status in ((robot, 403), ("nonsense", 401)):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{base}/pods", headers=headers) as answer:
                assert answer.status == status
