"""JupyterHub with KubeSpawner, unmodified: a person's server is a pod at our site."""

import pytest

from twinfra.testkit.strangers import node_modules, python_environment
from twinfra.testkit.waiting import wait_for

from .conftest import PUBLISHED, SERVERS
from .hub import account, jupyterhub, logged_in
from .kernels import run_cell

pytestmark = [pytest.mark.slow, pytest.mark.real("jupyterhub"), pytest.mark.real("kubernetes"),
              pytest.mark.timeout(1200)]  # fmt: skip
WITHIN_S = 90.0
CELL = """
import os
print(os.environ["JUPYTERHUB_USER"], os.environ["HOSTNAME"], sum(range(10)))
"""


@pytest.fixture
def network():
    """The hub's API and its proxy are on this machine's loopback: so must the servers be."""
    return "host"


@pytest.fixture(scope="session")
def programs():
    return python_environment(SERVERS / "jupyterhub")


@pytest.fixture(scope="session")
def modules():
    return node_modules(SERVERS / "configurable-http-proxy")


@pytest.fixture
def hub(programs, modules, control_plane, kube_namespace, tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    with jupyterhub(
        folder,
        programs=programs,
        modules=modules,
        kubeconfig=account(control_plane, kube_namespace),
        namespace=kube_namespace,
        image=PUBLISHED,
    ) as url:
        yield url


async def servers_of(pods, name):
    label = f"component=singleuser-server,hub.jupyter.org/username={name}"
    return (await pods.json("get", "pods", "-l", label))["items"]


@pytest.mark.story("A third party's manifest or chart needs nothing")
@pytest.mark.story("the site maps their image names to images built here")
async def test_a_person_runs_a_cell_in_a_server_that_the_hub_spawned_at_our_site(
    pods, node, hub, built
):
    async with logged_in(hub, "alice") as alice:
        await alice.start()
        (pod,) = await servers_of(pods, "alice")
        name = pod["metadata"]["name"]
        assert pod["spec"]["nodeName"] == node
        assert pod["spec"]["containers"][0]["image"] == PUBLISHED
        assert pod["status"]["containerStatuses"][0]["imageID"].endswith(built.digest)
        assert await pods.until_event(name, "Placed", node)
        assert (await alice.servers())[""]["ready"]

        async with alice.session.get(f"{alice.server}/lab") as page:
            assert "<title>JupyterLab</title>" in await page.text()
        said = await run_cell(alice.session, alice.server, CELL)
        assert said == (f"alice {name} 45\n", "ok")

        await alice.stop()
        await pods.until_gone(name)

        async def stopped():
            return await alice.servers() == {}

        await wait_for(stopped, timeout_s=WITHIN_S, what="the hub's word that it stopped")
