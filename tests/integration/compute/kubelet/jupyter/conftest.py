"""Sites that know other people's image names, and a namespace whose pods may go to them unchanged.

The image is built and unpacked once a machine, kept in the cache by the hash of its lock; a session
pulls it once.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.images.build import build_image
from twinfra.compute.containers.images.recipe import read_recipe
from twinfra.compute.containers.images.store import ImageStore
from twinfra.core.settings import cache_folder
from twinfra.testkit.ports import listening
from twinfra.testkit.processes import running
from twinfra.testkit.registry import registry
from twinfra.testkit.waiting import wait_for_sync

SITE = "hpc-b"
WITHIN_S = 120.0
LAYOUT = cache_folder() / "test-images"
SERVERS = Path(__file__).parents[4] / "servers"
TWINFRA = (sys.executable, "-m", "twinfra.cli.main")
PUBLISHED = "quay.io/jupyter/base-notebook"
LOCAL = """
[placement]
ask_registries = false
[sites.{site}.compute]
network = "{network}"
registries = ["{host}"]
plain_registries = ["{host}"]
image_names = {{ "{published}" = "{host}/base-notebook" }}
"""
SLURM = """
backend = "slurm"
[sites.{site}.slurm]
partition = "debug"
poll_s = 0.5
look_s = 0.1
environment = {{ SLURM_CONF = "{conf}" }}
"""


@pytest.fixture(scope="session")
def built():
    """Our image in the place of the published one."""
    return build_image(read_recipe(SERVERS / "jupyterlab" / "image.toml"), LAYOUT)


@pytest.fixture(scope="session")
def mirror(built, tmp_path_factory):
    """A registry that has the image."""
    folder = tmp_path_factory.mktemp("mirror")
    with registry(folder) as server:
        server.push(LAYOUT, built.reference, "base-notebook:latest")
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def images(built, tmp_path_factory):
    """Where the sites of a session keep what they pull; it is unpacked once a machine."""
    folder = tmp_path_factory.mktemp("pulled")
    kept = ImageStore([LAYOUT], cache_folder() / "test-unpacked").ensure(built.reference)
    (folder / kept.rootfs.parent.name).symlink_to(kept.rootfs.parent)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def network():
    """What pods reach at the sites; a test file may have another."""
    return "none"


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.real("slurm"))])
async def house(request, context, issuer, settings, door, mirror, images, network):
    """The site as ``twinfra site run`` runs it, in place of the fake one."""
    text = LOCAL.format(site=SITE, network=network, host=mirror.host, published=PUBLISHED)
    slurm = request.getfixturevalue("slurm_cluster") if request.param == "slurm" else None
    if slurm:
        text += SLURM.format(site=SITE, conf=slurm.conf)
    with context.home.settings_file.open("a") as file:
        file.write(text)
    (context.home.site(SITE).root / "images").symlink_to(images)
    ports = [context.home.port(f"{kind}@{SITE}") for kind in ("plugin", "interlink")]
    command = [*TWINFRA, "site", "run", SITE, "--home", str(context.home.root)]
    log = context.home.logs / "site.log"
    with running(
        command, log=log, ready=lambda: all(map(listening, ports)), timeout_s=WITHIN_S
    ):  # fmt: skip
        yield request.param
    if slurm:
        await asyncio.to_thread(slurm.run, "scancel", "--me", check=False)
    for folder in context.home.site(SITE).jobs.glob("*/attempts"):
        await KeeperHandle(folder.parent).prove_gone()


@pytest.fixture
def kube_namespace(control_plane, context):
    """A namespace whose pods may go to virtual nodes as they are."""
    control_plane.wait_ready()
    home = ("--home", str(context.home.root))
    command = [*TWINFRA, "kubelet", "install", "--kubeconfig", str(control_plane.kubeconfig), *home]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=WITHIN_S)
    name = control_plane.namespace({"twinfra.io/offload": "true"})
    container = {"name": "main", "image": PUBLISHED}
    probe = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}}
    probe["spec"] = {"containers": [container]}
    dry = ("-n", name, "create", "--dry-run=server", "-f", "-", "-o", "json")

    def gated():
        made = json.loads(control_plane.kubectl(*dry, stdin=json.dumps(probe)).stdout)
        return made["spec"].get("schedulingGates")

    wait_for_sync(gated, timeout_s=WITHIN_S, what="the policies to act")
    yield name
    control_plane.wait_ready()
    control_plane.delete_namespace(name)
