"""Real keepers of real containers: a tiny image, a runtime, a folder that anybody may enter."""

import asyncio
import itertools
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from twinfra.compute.containers.archive import build_keeper, keeper_python
from twinfra.compute.containers.bubblewrap import BubblewrapRuntime
from twinfra.compute.containers.handle import KeeperHandle, LogQuery
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.containers.keeper.model import ContainerPlan, PodPlan, job_mark
from twinfra.compute.containers.model import ContainerSpec
from twinfra.compute.containers.proot import ProotRuntime
from twinfra.testkit.images import BUSYBOX, busybox_image

NOBODY = 65534 if os.geteuid() == 0 else os.geteuid()
_count = itertools.count(1)


@pytest.fixture(scope="session")
def open_folder():
    """A folder that every user may enter (pytest's own are closed)."""
    folder = Path(tempfile.mkdtemp(prefix="twinfra-containers-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=False, stdin=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def rootfs(open_folder) -> Path:
    work = open_folder / "busybox"
    work.mkdir()
    busybox_image(open_folder / "layout", work)
    store = ImageStore([open_folder / "layout"], open_folder / "unpacked")
    return store.ensure(BUSYBOX).rootfs


@pytest.fixture(scope="session")
def keeper_archive(open_folder) -> Path:
    return build_keeper(open_folder / "keeper.pyz")


@pytest.fixture(params=["bubblewrap", "proot"])
def runtime(request):
    return BubblewrapRuntime() if request.param == "bubblewrap" else ProotRuntime()


@pytest.fixture
def bubblewrap():
    return BubblewrapRuntime()


class Bench:
    """Makes plans and starts keepers; proves every job gone at the end."""

    def __init__(self, folder: Path, rootfs: Path, archive: Path) -> None:
        self.folder = folder
        self.rootfs = rootfs
        self.archive = archive
        self.uid = f"pod-{os.getpid()}-{next(_count)}"
        self.jobdir = folder / self.uid
        self.handles: list[KeeperHandle] = []

    def container(self, runtime, *command, name="main", spec=None, **fields) -> ContainerPlan:
        isolated = runtime.name == "bubblewrap"
        wanted = ContainerSpec(
            rootfs=self.rootfs,
            command=command,
            scratch=self.jobdir / "scratch" / name,
            mark=job_mark(self.uid, 1),
            network="none" if isolated else "host",
            env={"PATH": "/bin"},
        )
        return ContainerPlan(name, runtime.launch(replace(wanted, **(spec or {}))), **fields)

    def plan(self, runtime, *containers, **fields) -> PodPlan:
        isolated = runtime.name == "bubblewrap"
        defaults = {"isolated": isolated, "network": "none" if isolated else "host"}
        return PodPlan(self.uid, tuple(containers), **{**defaults, **fields})

    async def start(self, plan) -> KeeperHandle:
        handle = await KeeperHandle.start(self.jobdir, plan, keeper=self.archive)
        self.handles.append(handle)
        return handle

    async def run(self, plan, timeout_s=20.0):
        """Start and return the final state."""
        handle = await self.start(plan)
        state = await handle.wait_finished(timeout_s=timeout_s)
        assert state is not None, handle.state()
        return state

    async def shell(self, runtime, script, *, spec=None, limits=None, **fields):
        """Run a shell script as the only container; return the final state and its output."""
        extra = {"limits": limits} if limits else {}
        item = self.container(runtime, "sh", "-c", script, spec=spec, **extra)
        state = await self.run(self.plan(runtime, item, **fields))
        return state, self.logs()

    def logs(self, container="main", **fields) -> str:
        query = LogQuery(container, **fields)
        return b"".join(KeeperHandle(self.jobdir).read_logs(query)).decode()

    async def start_as_nobody(self, plan) -> KeeperHandle:
        """Start the keeper as an ordinary user, which we may be; only root lays the plan down."""
        if os.geteuid() != 0:
            return await self.start(plan)
        handle = KeeperHandle(self.jobdir)
        handle._prepare(plan)
        for path in (self.jobdir, *self.jobdir.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        process = await asyncio.create_subprocess_exec(
            "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
            keeper_python(), "-I", "-S", "-B", self.archive, self.jobdir,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/",
        )  # fmt: skip
        _, said = await process.communicate()
        assert process.returncode == 0, said
        self.handles.append(handle)
        return handle


@pytest.fixture
async def bench(open_folder, rootfs, keeper_archive):
    made = Bench(open_folder, rootfs, keeper_archive)
    yield made
    for handle in made.handles:
        await handle.prove_gone()
