"""The Slurm back end passes the suite on a real Slurm, its jobs real containers."""

import os
import signal
import subprocess

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.testkit.site_contract import JobWish, SiteContract, SiteHouse

from .slurm_bench import PATIENCE_S

pytestmark = [pytest.mark.real("slurm"), pytest.mark.slow]


class TestSlurmSite(SiteContract):
    """Keepers are reached by ``srun --overlap``, as on a node that is not this machine."""

    @pytest.fixture
    async def house(self, opened, make):
        made = {}

        def job(uid, wish):
            spec = make(uid, JobWish(echo_port=wish.echo_port) if wish.echo_port else wish)
            made[spec.name] = spec
            return spec

        async def lose(native_id):
            for name, spec in made.items():
                if await site.find(name) == native_id:
                    os.kill(KeeperHandle(spec.job_dir).identity().pid, signal.SIGKILL)

        async with opened(reach="srun") as site:
            yield SiteHouse(site, job, lose, patience_s=PATIENCE_S)


def test_the_slurm_of_the_tests_listens_on_loopback_only(slurm_cluster):
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    for port in slurm_cluster.ports():
        (line,) = [row for row in listening.splitlines() if row.split()[3].endswith(f":{port}")]
        assert line.split()[3] == f"127.0.0.1:{port}"
