"""Images of a private registry: unchanged pods bring their own accounts, by `imagePullSecrets`."""

import sys

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.ports import listening
from twinfra.testkit.processes import running
from twinfra.testkit.registry import registry

SITE = "hpc-b"
AWAY = "127.0.0.1:1"
WITHIN_S = 120.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("kubernetes"),
    pytest.mark.real("docker-registry"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def private(tmp_path, layout):
    """A registry that gives its image to alice only."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry(folder, {"alice": "s3cret"}) as server:
        server.push(layout, BUSYBOX, "team/app:1")
        yield server


@pytest.fixture
async def house(context, issuer, settings, door, private):
    """The site as ``twinfra site run`` runs it; it may pull, and has no account itself."""
    hosts = f'["{private.host}", "{AWAY}"]'
    with context.home.settings_file.open("a") as file:
        file.write(f"[sites.{SITE}.compute]\nregistries = {hosts}\nplain_registries = {hosts}\n")
    ports = [context.home.port(f"{kind}@{SITE}") for kind in ("plugin", "interlink")]
    command = [sys.executable, "-m", "twinfra.cli.main", "site", "run", SITE]
    with running(
        [*command, "--home", str(context.home.root)],
        log=context.home.logs / "site.log",
        ready=lambda: all(map(listening, ports)),
        timeout_s=WITHIN_S,
    ):
        yield
    for folder in context.home.site(SITE).jobs.glob("*/attempts"):
        await KeeperHandle(folder.parent).prove_gone()


@pytest.mark.story("imagePullSecrets (Debian's `docker-registry` as the private registry)")
async def test_a_private_image_runs_for_a_pod_with_its_secret_and_not_without(pods, node, private):
    image = f"{private.host}/team/app:1"
    container = {"image": image, "command": ["echo", "private"]}
    await pods.apply(private.pull_secret("mine"), private.pull_secret("stale", password="old"))
    await pods.create("without", container=container)
    await pods.create("stale", container=container, imagePullSecrets=[{"name": "stale"}])
    for name in ("without", "stale"):
        (told,) = await pods.until_event(name, "ErrImagePull", image)
        assert "does not give out team/app" in told
        failed = await pods.until_phase(name, "Failed")
        assert failed["status"]["reason"] == "ErrImagePull"
    await pods.create("with", container=container, imagePullSecrets=[{"name": "mine"}])
    ended = await pods.until_phase("with", "Succeeded", "Failed")
    assert ended["status"]["phase"] == "Succeeded", ended["status"]
    assert (await pods.kubectl("logs", "with")).stdout == "private\n"


@pytest.mark.story("a registry that is away is waited for, with an event naming the image")
async def test_a_pod_waits_by_name_of_its_image_when_the_registry_is_away(pods, node):
    image = f"{AWAY}/team/app:1"
    await pods.create(container={"image": image, "command": ["true"]})
    await pods.until_event("train-0", "ImagePullBackOff", image)
    waiting = await pods.until(
        "train-0", lambda pod: "ImagePullBackOff" in str(pod["status"].get("containerStatuses"))
    )
    assert waiting["status"]["phase"] == "Pending"
