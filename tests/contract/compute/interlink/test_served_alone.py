"""The API server as a process of its own, started as typed, before somebody else's plug-in."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
TWINFRA = Path(sys.executable).with_name("twinfra")


@pytest.fixture
def serve(context):
    """Type ``twinfra serve``; what was started is over after the test."""
    made = []

    def start(name):
        with context.home.logs.joinpath("serve.log").open("ab") as log:
            words = [TWINFRA, "serve", name, "--home", context.home.root]
            made.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return made[-1]

    context.home.logs.mkdir(parents=True, exist_ok=True)
    yield start
    for process in made:
        process.kill()
        process.wait()


def site(context, name, stranger):
    with context.home.settings_file.open("a") as file:
        url = f"http://127.0.0.1:{stranger.port}"
        file.write(f'[sites.{name}.interlink]\nplugin = "{url}"\nplugin_token = false\n')


@pytest.mark.story(
    "`twinfra serve interlink`: the API server alone, started as typed, before any plug-in"
)
@pytest.mark.parametrize("name", ["interlink", f"interlink@{SITE}"])
async def test_it_serves_kubelets_before_a_plugin_of_somebody_else(
    context, issuer, stranger, serve, name
):
    site(context, SITE, stranger)
    stranger.answers["/status"] = (200, b'{"status": "ok", "resources": {"cpu": "128"}}')
    process, url = serve(name), context.url(f"interlink@{SITE}")
    log, port = context.home.logs / "serve.log", context.home.port(f"interlink@{SITE}")

    def started():
        ours = "services_started" in log.read_text() and listening(port)
        return ours or process.poll() is not None

    await wait_for(started, timeout_s=60, what="the API server")
    assert process.poll() is None, log.read_text()[-2000:]
    token = issuer.service_token("kubelet", aud=url)
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-X", "POST", "--cacert", str(context.tls_server().cafile), "-m", "20",
        "-H", f"Authorization: Bearer {token}", f"{url}/pinglink",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await curl.communicate()
    assert json.loads(out)["resources"] == {"cpu": "128"}
    method, path, body, _ = stranger.seen[-1]
    assert (method, path, json.loads(body)) == ("GET", "/status", [])
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("interlink@nowhere", "no site 'nowhere'"),
        ("interlink", "name a site, as interlink@SITE"),
        ("interlinks", "no service 'interlinks'"),
    ],
)
def test_it_says_what_there_is_when_no_such_site_is_there(context, stranger, name, text):
    context.home.root.mkdir(exist_ok=True)
    for each in (SITE, "edge-c"):
        site(context, each, stranger)
    words = [TWINFRA, "serve", name, "--home", context.home.root]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
