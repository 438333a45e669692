"""The mock passes the suite, and follows its script by the clock."""

import pytest

from twinfra.compute.containers.keeper.model import ContainerPlan, Launch, PodPlan
from twinfra.compute.sites.mock import MockSettings, MockSite
from twinfra.compute.sites.model import JobSpec, JobState
from twinfra.core.errors import SiteRejected, Unavailable
from twinfra.core.ids import new_uuid
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.site_contract import JobWish, SiteContract, SiteHouse


def job(folder, uid, **options):
    main = ContainerPlan("main", Launch((), ("true",)))
    named = {f"mock.twinfra.io/{key.replace('_', '-')}": str(v) for key, v in options.items()}
    return JobSpec(PodPlan(uid, (main,)), folder / uid, native_options=named)


class TestMockSite(SiteContract):
    @pytest.fixture
    def house(self, tmp_path):
        def make(uid, wish):
            run_s = 1000 if wish.hang else 0
            return job(tmp_path, uid, exit_code=wish.exit_code, run_s=run_s)

        return SiteHouse(MockSite(MockSettings(queue_s=0)), make)

    async def test_carries_bytes_both_ways_when_a_port_is_open(self, house):
        native_id = await house.site.submit(house.job(new_uuid(), JobWish(hang=True)))
        with pytest.raises(Unavailable, match="only passes time"):
            await house.site.connect(native_id, 8080)


async def test_follows_the_clock_when_nobody_asks(tmp_path):
    clock = VirtualClock()
    site = MockSite(MockSettings(queue_s=1, run_s=10), clock=clock)
    native_id = await site.submit(job(tmp_path, new_uuid()))
    seen = []
    for step_s in (0.5, 1, 9, 1):
        seen.append((await site.status([native_id]))[native_id].state)
        await clock.advance(step_s)
    seen.append((await site.status([native_id]))[native_id].state)
    assert seen == [
        JobState.QUEUED,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.RUNNING,
        JobState.COMPLETED,
    ]


async def test_refuses_the_job_when_its_script_is_no_number(tmp_path):
    site = MockSite(MockSettings())
    with pytest.raises(SiteRejected, match="run-s"):
        await site.submit(job(tmp_path, new_uuid(), run_s="soon"))
