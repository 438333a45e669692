"""The plug-in's Unix socket for upstream's API server: private, without tokens, off by default.

With ``TWINFRA_TEST_UPSTREAM`` naming a folder with upstream's binary ``interlink``, that server is
started before our plug-in; without it the contract tests of both hops hold the bytes.
"""

import asyncio
import json
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from twinfra.core.unix import listen_privately, peer_uid
from twinfra.testkit.ports import free_port, listening
from twinfra.testkit.processes import running
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
UPSTREAM = os.environ.get("TWINFRA_TEST_UPSTREAM", "")


@pytest.fixture
def door(tmp_path_factory):
    return tmp_path_factory.mktemp("d") / "plugin.sock"


@pytest.fixture
def context(context, door):
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(f'[sites.{SITE}.plugin]\nsocket = "{door}"\n')
    return context


def curl(door, *argv, body=None):
    more = [] if body is None else ["-d", json.dumps(body)]
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", door, "-m", "30", "-w", "\n%{http_code}", *argv, *more],
        check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    answer, _, status = done.stdout.rpartition(b"\n")
    return int(status), answer


@pytest.mark.story("a plug-in may open a Unix socket (0600, peer credentials checked)")
@pytest.mark.real("curl")
async def test_a_pod_is_made_over_the_socket_without_a_token(house, pod, door):
    assert stat.S_IMODE(door.stat().st_mode) == 0o600
    made = pod()
    uid = made["metadata"]["uid"]
    status, _ = await asyncio.to_thread(curl, door, "-X", "GET", "http://x/status", body=[])
    assert status == 200
    body = {"pod": made, "container": [{"name": "main"}]}
    status, answer = await asyncio.to_thread(curl, door, "-X", "POST", "http://x/create", body=body)
    assert (status, json.loads(answer)["PodUID"]) == (200, uid)
    await wait_for(lambda: uid in house.site.submissions, timeout_s=60, what="the job")
    status, _ = await house.curl("-X", "GET", "-d", "[]", f"{house.plugin}/status", token="none")
    assert status == 401


def test_nobody_elses_connection_is_accepted(door):
    listener = listen_privately(door)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(door))
            listener.setblocking(True)
            connection, _ = listener.accept()
            assert peer_uid(connection) == os.geteuid()
            connection.close()
        if os.geteuid() == 0:
            stranger = (
                "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
                "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
            )
            door.parent.parent.chmod(0o755)
            for folder in door.parents:
                if folder == Path("/tmp"):
                    break
                folder.chmod(0o755)
            door.chmod(0o666)  # even if somebody opens the file to all
            with subprocess.Popen(
                ["/usr/bin/python3", "-c", stranger, str(door)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            ) as process:
                with pytest.raises(ConnectionAbortedError):
                    listener.accept()
                assert process.communicate()[0].strip() in {b"b''", b""}
    finally:
        listener.close()


if UPSTREAM:

    @pytest.mark.real("upstream's interLink API server")
    async def test_upstreams_own_server_reaches_our_plugin(house, pod, door, tmp_path):
        port = free_port()
        config = tmp_path / "InterLinkConfig.yaml"
        config.write_text(
            f"InterlinkAddress: http://127.0.0.1\nInterlinkPort: {port}\n"
            f"SidecarURL: unix://{door}\nSidecarPort: 0\nDataRootFolder: {tmp_path}\n"
        )
        binary = Path(UPSTREAM) / "interlink"
        env = {**os.environ, "INTERLINKCONFIGPATH": str(config)}
        with running(
            [binary], log=tmp_path / "log", ready=lambda: listening(port), environment=env
        ):
            made = pod()
            status, answer = await house.curl(
                "-X", "POST", f"http://127.0.0.1:{port}/create", "-d",
                json.dumps({"pod": made, "configmaps": None, "secrets": None,
                            "projectedvolumesmaps": None, "jobscriptURL": ""}),
            )  # fmt: skip
            assert (status, json.loads(answer)["PodUID"]) == (200, made["metadata"]["uid"])
