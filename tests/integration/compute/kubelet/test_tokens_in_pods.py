"""Tokens of ServiceAccounts in running containers: of bounded life, and renewed in time."""

import asyncio
import base64
import json

import pytest

from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
WITHIN_S = 60.0
LIFE_S = 600  # the shortest that Kubernetes gives
TOKEN = {"path": "token", "expirationSeconds": LIFE_S, "audience": "there"}


@pytest.fixture
def settings(settings, context):
    """Renew a token of ten minutes after six seconds."""
    text = context.home.settings_file.read_text()
    context.home.settings_file.write_text(
        text.replace("[kubelet]\n", "[kubelet]\ntokens_renewed_at = 0.01\n")
    )


@pytest.fixture
def house(local_house):
    return local_house


async def started(pods):
    script = "until [ -e /tmp/go ]; do sleep 0.1; done"
    await pods.create(
        container={
            "image": BUSYBOX,
            "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        },
        volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": TOKEN}]}}],
    )
    await pods.until_phase("train-0", "Running")


async def seen(pods):
    """Return the token as the running container reads it now."""
    done = await pods.kubectl("exec", "train-0", "--", "cat", "/v/token", check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


async def until_other(pods, *known):
    async def other():
        token = await seen(pods)
        return token if token and token not in known else None

    return await wait_for(other, timeout_s=WITHIN_S, what="another token in the container")


def claims_of(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def reviewed(cluster, token):
    """Return what the API server thinks of a token."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["there"]},
    }
    done = cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review))
    return json.loads(done.stdout)["status"]


@pytest.mark.story("projected (token with bounded life, renewed into the running job)")
async def test_a_container_finds_newer_good_tokens_in_its_file_while_it_runs(
    pods, node, house, control_plane
):
    await started(pods)
    first = await until_other(pods)
    second = await until_other(pods, first)
    third = await until_other(pods, first, second)
    issued = [claims_of(token)["iat"] for token in (first, second, third)]
    assert issued == sorted(set(issued))
    for token in (first, second, third):
        claims = claims_of(token)
        assert claims["exp"] - claims["iat"] == LIFE_S
        assert claims["aud"] == ["there"]
    review = await asyncio.to_thread(reviewed, control_plane, third)
    assert review["authenticated"] is True
    assert review["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["train-0"]
    await pods.kubectl("exec", "train-0", "--", "touch", "/tmp/go")
    await pods.until_phase("train-0", "Succeeded")


@pytest.mark.story("tokens of pods that were adopted after a restart are renewed")
async def test_a_container_finds_a_newer_token_when_the_kubelet_was_killed(
    pods, kubelet, house, control_plane, ready
):
    kubelet.start()
    await ready(control_plane, kubelet.node)
    await started(pods)
    kubelet.kill()
    kubelet.start()
    await ready(control_plane, kubelet.node)
    await until_other(pods, *[await until_other(pods)])
