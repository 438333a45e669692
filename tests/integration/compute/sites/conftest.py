"""A real Slurm and jobs of real containers for it."""

import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from twinfra.compute.containers.images.store import ImageStore
from twinfra.testkit.images import BUSYBOX, busybox_image

from .slurm_bench import Builder, Opened, clean

_count = itertools.count(1)


@pytest.fixture(scope="session")
def shared():
    """What stands for the file system that nodes share."""
    folder = Path(tempfile.mkdtemp(prefix="twinfra-shared-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=False, stdin=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def busybox_root(shared):
    work = shared / "busybox"
    work.mkdir()
    busybox_image(shared / "layout", work)
    return ImageStore([shared / "layout"], shared / "unpacked").ensure(BUSYBOX).rootfs


@pytest.fixture
async def slurm_jobs(shared, slurm_cluster):
    """The folder of the jobs of one test."""
    folder = shared / f"jobs{next(_count)}"
    folder.mkdir()
    yield folder
    await clean(slurm_cluster, folder)


@pytest.fixture
def make(slurm_jobs, busybox_root):
    return Builder(slurm_jobs, busybox_root)


@pytest.fixture
def opened(tmp_path, slurm_cluster):
    """Open the site of this test, again or for the first time, with further settings."""

    def open_site(**settings):
        return Opened(tmp_path, slurm_cluster, **settings)

    return open_site
