"""Sites of real containers: in a process that a test may kill, with neighbours, on real Slurm."""

import asyncio
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.testkit.images import busybox_image
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

from .federation import federated
from .site_process import SITE, SiteProcess, shell

WITHIN_S = 120.0


@pytest.fixture(scope="session")
def layout(tmp_path_factory):
    """An image layout that holds busybox."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "busybox").mkdir()
    busybox_image(folder / "layout", folder / "busybox")
    yield folder / "layout"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def site(context, issuer, settings):
    """The plug-in and the API server of a site, in one process."""
    made = SiteProcess(context)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def split_site(context, issuer, settings):
    """The plug-in and the API server of a site, each in a process of its own, in this order."""
    plugin, api = SiteProcess(context, "plugin"), SiteProcess(context, "interlink")
    await plugin.start()
    await api.start()
    yield plugin, api
    await api.over()
    await plugin.close()


@pytest.fixture
def make_pod():
    return shell


@pytest.fixture
def site_class():
    return SiteProcess


@pytest.fixture
async def federation(context, settings):
    """The central services, transfers too, and two edges, all real; the site is a process."""
    async with federated(context) as made:
        yield made


@pytest.fixture
def compute_lines():
    """Further lines of the site's compute settings; a folder of tests may have its own."""
    return ""


@asynccontextmanager
async def _running(context, cancel=lambda: None):
    """Run ``twinfra site run``; once it is over, `cancel` ends its jobs, and no keeper is left."""
    command = [sys.executable, "-m", "twinfra.cli.main", "site", "run", SITE, "--home"]
    context.home.logs.mkdir(parents=True, exist_ok=True)
    log = context.home.logs / "site.log"
    with log.open("ab") as output:
        process = await asyncio.to_thread(
            subprocess.Popen,
            [*command, context.home.root],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        ports = [context.home.port(f"{kind}@{SITE}") for kind in ("plugin", "interlink")]
        await wait_for(
            lambda: process.poll() is not None or all(listening(port) for port in ports),
            timeout_s=WITHIN_S,
            what="the site",
        )
        assert process.poll() is None, log.read_text()[-3000:]
        yield
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
        await asyncio.to_thread(cancel)  # only now: the site starts lost pods again
        for folder in context.home.site(SITE).jobs.glob("*/attempts"):
            await KeeperHandle(folder.parent).prove_gone()


@pytest.fixture
def site_running(context):
    """Give what runs the site as a process of its own."""
    return partial(_running, context)


@pytest.fixture
async def slurm_house(
    context, issuer, door, slurm_cluster, layout, tmp_path, compute_lines, site_running
):
    """The site in the place of the fake one; gives the cluster."""
    with context.home.settings_file.open("a") as file:
        file.write(
            f"""
[sites.{SITE}.compute]
backend = "slurm"
shared_folder = "{tmp_path}/shared"
images = ["{layout}"]
{compute_lines}
[sites.{SITE}.slurm]
partition = "debug"
poll_s = 0.5
look_s = 0.1
environment = {{ SLURM_CONF = "{slurm_cluster.conf}" }}
"""
        )
    async with site_running(partial(slurm_cluster.run, "scancel", "--me", check=False)):
        yield slurm_cluster
