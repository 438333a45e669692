"""A Slurm back end on the real Slurm of the session, and jobs of real containers for it."""

import asyncio
import shlex

from twinfra.compute.containers.bubblewrap import BubblewrapRuntime
from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.keeper.model import ContainerPlan, Limits, PodPlan, job_mark
from twinfra.compute.containers.model import ContainerSpec
from twinfra.compute.sites.model import JobSpec, JobState
from twinfra.compute.sites.slurm import SlurmSite
from twinfra.compute.sites.slurm.settings import SlurmSettings
from twinfra.core.database import Database
from twinfra.testkit.waiting import wait_for

MIB = 1024**2
PATIENCE_S = 60.0


def words(wish):
    """Return the command of a container that does what is wished."""
    if wish.echo_port:
        return "nc", "-ll", "-p", str(wish.echo_port), "-e", "cat"
    lines = [f"printf '%s\\n' {shlex.quote(line.decode())}" for line in wish.output.splitlines()]
    lines.append("exec sleep 1000" if wish.hang else f"exit {wish.exit_code}")
    return "sh", "-c", "; ".join(lines)


class Builder:
    """Makes jobs of one busybox container in namespaces of its own."""

    def __init__(self, folder, rootfs):
        self.folder, self.rootfs = folder, rootfs
        self.runtime = BubblewrapRuntime()

    def __call__(self, uid, wish, *, attempt=1, grace_s=1.0, command=None, limits=None, **more):
        container = {"env": {"PATH": "/bin"}, **more.pop("container", {})}
        spec = ContainerSpec(
            rootfs=self.rootfs,
            command=command or words(wish),
            scratch=self.folder / uid / "scratch",
            mark=job_mark(uid, attempt),
            network="none",
            **container,
        )
        main = ContainerPlan("main", self.runtime.launch(spec), limits=limits or Limits())
        plan = PodPlan(uid, (main,), attempt=attempt, termination_grace_s=grace_s)
        return JobSpec(plan, self.folder / uid, **{"memory_bytes": 64 * MIB, **more})


class Opened:
    """A Slurm site, its loop running; notes below `folder`."""

    def __init__(self, folder, cluster, **settings):
        self.folder = folder
        self.settings = SlurmSettings(
            environment=dict(cluster.environment),
            **{"poll_s": 0.2, "look_s": 0.05, "lost_after_s": 1.0, **settings},
        )

    async def __aenter__(self):
        self.site = SlurmSite(
            Database(f"sqlite:///{self.folder}/slurm.sqlite"),
            self.settings,
            keeper=self.folder / "keeper.pyz",
            history_s=3600,
        )
        await self.site.open()
        self.loop = asyncio.create_task(self.site.run())
        return self.site

    async def __aexit__(self, *_):
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)
        await self.site.close()


async def until(site, native_id, *states):
    """Wait until a job is in one of `states`."""

    async def reached():
        status = (await site.status([native_id]))[native_id]
        return [status] if status.state in states else []

    return (await wait_for(reached, timeout_s=PATIENCE_S, what=f"job {native_id} {states}"))[0]


async def ended(site, native_id):
    """Wait until a job is over."""
    return await until(site, native_id, *(state for state in JobState if state.final))


async def clean(cluster, jobs):
    """Leave nothing in Slurm and nothing on the machine."""
    await asyncio.to_thread(cluster.run, "scancel", "--me", check=False)

    def quiet():
        return not cluster.run("squeue", "--me", "--noheader", check=False).strip()

    await wait_for(quiet, timeout_s=PATIENCE_S, what="an empty queue")
    for folder in jobs.iterdir():
        if (folder / "attempts").exists():
            await KeeperHandle(folder).prove_gone()
