"""How sessions arrive at a virtual node's own HTTPS API: as WebSocket, as it declares."""

import asyncio
import json
from contextlib import suppress

import pytest

from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
WITHIN_S = 60.0
SERVES = "echo ok > /tmp/f; exec httpd -f -p 8080 -h /tmp"


@pytest.fixture
def house(local_house):
    return local_house


def sessions(kubelet):
    """Return kind and wire of each session that the node's door has opened, as its log says."""
    found = []
    for line in kubelet.log.read_text().splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if entry.get("event") == "kubelet_session_opened":
                found.append((entry["kind"], entry["wire"]))
    return found


async def forwarded(pods):
    """Return what the pod's web server says through ``kubectl port-forward``."""
    forward = await asyncio.create_subprocess_exec(
        *pods.cluster.kubectl_command("-n", pods.namespace, "port-forward", "pod/train-0", ":8080"),
        stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        env=pods.cluster.environment,
    )  # fmt: skip
    try:
        line = (await asyncio.wait_for(forward.stdout.readline(), WITHIN_S)).decode()
        port = int(line.split("127.0.0.1:")[1].split()[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /f HTTP/1.0\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), WITHIN_S)
        writer.close()
    finally:
        forward.kill()
        await forward.wait()
    return answer


@pytest.mark.story("the node declares `ExtendWebSocketsToKubelet`")
async def test_exec_and_port_forward_arrive_as_websocket_when_the_node_declares_it(
    pods, node, kubelet, control_plane
):
    body = await asyncio.to_thread(control_plane.kubectl_json, "get", "node", node)
    assert body["status"]["declaredFeatures"] == ["ExtendWebSocketsToKubelet"]
    await pods.create(container={"image": BUSYBOX, "command": ["sh", "-c", SERVES]})
    await pods.until_phase("train-0", "Running")

    async def serves():
        look = ("exec", "train-0", "--", "wget", "-qO-", "http://localhost:8080/f")
        return (await pods.kubectl(*look, check=False)).stdout == "ok\n"

    await wait_for(serves, timeout_s=WITHIN_S, what="the pod's web server")
    assert (await forwarded(pods)).endswith(b"ok\n")
    assert set(sessions(kubelet)) == {("exec", "websocket"), ("port-forward", "websocket")}
