"""A cluster that others use as they find it, and a site that has images for the names they say."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from twinfra.compute.containers.images.build import build_image
from twinfra.compute.containers.images.recipe import read_recipe
from twinfra.core.settings import cache_folder
from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.registry import registry
from twinfra.testkit.waiting import wait_for_sync

HERE = Path(__file__).parent
DASK = HERE.parents[3] / "servers" / "dask"
GATE = "twinfra.io/placement"
SITE = "hpc-b"
WITHIN_S = 120.0
HUB, GITHUB = "docker.io", "ghcr.io"


@pytest.fixture(scope="session")
def built():
    """A layout with our images; its layers are kept from run to run."""
    layout = cache_folder() / "test-images"
    for recipe in (HERE / "debian.toml", DASK / "image.toml"):
        build_image(read_recipe(recipe), layout)
    return layout


@pytest.fixture(scope="session")
def mirror(tmp_path_factory, built, layout):
    """A registry that holds our images under the names of theirs."""
    with registry(tmp_path_factory.mktemp("mirror")) as server:
        for name in ("debian:latest", "ubuntu:16.04"):
            server.push(built, "debian:latest", f"{HUB}/library/{name}")
        server.push(layout, BUSYBOX, f"{HUB}/library/alpine:3.24.2")
        server.push(built, "dask:latest", f"{GITHUB}/dask/dask:latest")
        yield server


@pytest.fixture
def network():
    """What pods reach; a test file may have another."""
    return "none"


@pytest.fixture
def settings(settings, context):
    """As ever; their images' own registries are not asked."""
    with context.home.settings_file.open("a") as file:
        file.write("[placement]\nask_registries = false\n")


@pytest.fixture
def compute_lines(mirror, network):
    return f"""
cpus = 4
network = "{network}"
image_names = {{ "{HUB}/" = "{mirror.host}/{HUB}/", "{GITHUB}/" = "{mirror.host}/{GITHUB}/" }}
registries = ["{mirror.host}"]
plain_registries = ["{mirror.host}"]
"""


@pytest.fixture
async def local_house(context, issuer, settings, door, compute_lines, site_running):
    """The local site as ``twinfra site run`` runs it."""
    with context.home.settings_file.open("a") as file:
        file.write(f"[sites.{SITE}.compute]{compute_lines}")
    async with site_running():
        yield


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.real("slurm"))])
def house(request):
    return request.getfixturevalue(f"{request.param}_house")


@pytest.fixture
async def kube_namespace(control_plane, context):
    """A namespace whose pods may go to virtual nodes, whoever makes them."""
    control_plane.wait_ready()
    command = [sys.executable, "-m", "twinfra.cli.main", "kubelet", "install"]
    words = ["--kubeconfig", str(control_plane.kubeconfig), "--home", str(context.home.root)]
    await asyncio.to_thread(
        subprocess.run, [*command, *words], check=True, stdin=subprocess.DEVNULL, timeout=WITHIN_S
    )
    name = control_plane.namespace({"twinfra.io/offload": "true"})
    await asyncio.to_thread(until_offered, control_plane, name)
    yield name
    control_plane.wait_ready()
    control_plane.delete_namespace(name)


def until_offered(cluster, namespace):
    """Return when the API server acts by the policies: its caches follow what was written."""
    spec = {"containers": [{"name": "main", "image": "debian"}]}
    probe = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
    words = ("-n", namespace, "create", "--dry-run=server", "-f", "-", "-o", "json")

    def gated():
        made = json.loads(cluster.kubectl(*words, stdin=json.dumps(probe)).stdout)
        return {"name": GATE} in made["spec"].get("schedulingGates", [])

    wait_for_sync(gated, timeout_s=WITHIN_S, what="the policies to act")
