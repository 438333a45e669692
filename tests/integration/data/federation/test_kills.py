"""kill -9 of a service in the middle of its work, then the same service again: nothing is lost."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from twinfra.core.errors import NotFound, TwinfraError
from twinfra.data.datasets.client import Did
from twinfra.data.transfers.client import JobState, NewTransfer
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

BODY = bytes(range(256)) * 4096
SLOW = """
rate_limit_bytes_per_s = 524288
marker_interval_s = 0.1
"""


@asynccontextmanager
async def process(context, name):
    """Run one service as a process of its own; gives what kills it."""
    log = (context.home.logs / f"{name}.log").open("ab")
    argv = [sys.executable, "-m", "twinfra.cli.main", "serve", name]
    argv += ["--home", str(context.home.root)]
    child = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    log.close()
    port = context.home.port(name)
    try:
        await wait_for(
            lambda: listening(port) or child.returncode is not None, timeout_s=40, what=name
        )
        assert child.returncode is None, (context.home.logs / f"{name}.log").read_text()[-3000:]
        yield lambda: os.kill(child.pid, signal.SIGKILL)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def copies(site, outcome):
    labels = {"site": site, "direction": "pull", "outcome": outcome}
    return REGISTRY.get_sample_value("twinfra_edge_copies_total", labels) or 0.0


@pytest.mark.slow
@pytest.mark.story("in the middle of a copy: at the first progress marker")
async def test_a_copy_goes_on_after_the_transfer_service_was_killed(prepared, federate, home):
    home.settings_file.write_text(home.settings_file.read_text() + SLOW)
    async with federate(prepared, without=("transfers",)) as federation:
        await federation.put("edge-c", "/in/a", BODY)
        before = {outcome: copies("hpc-b", outcome) for outcome in ("success", "failure")}
        async with process(prepared, "transfers") as kill:
            wanted = NewTransfer(
                (federation.dav("edge-c", "/in/a"),), federation.dav("hpc-b", "/out/a"),
                (await federation.token("edge@edge-c"),), await federation.token("edge@hpc-b"),
            )  # fmt: skip
            job_id = await federation.transfers().submit([wanted])
            async for event in federation.notifications().events(
                ["org.twinfra.transfer.progress"], since="beginning"
            ):
                assert 0 < event.data["bytes"] < len(BODY)
                break
            kill()
        await wait_for(lambda: copies("hpc-b", "failure") == before["failure"] + 1)
        assert (await federation.get("hpc-b", "/out/a", expect=(404,))).status == 404
        async with process(prepared, "transfers"):
            client = federation.transfers()

            async def over():
                found = await client.status(job_id)
                return found if found.state.final else None

            job = await wait_for(over, timeout_s=40)
        assert job.state is JobState.FINISHED, job
        assert (await federation.get("hpc-b", "/out/a")).body == BODY
        assert copies("hpc-b", "success") == before["success"] + 1
        assert copies("hpc-b", "failure") == before["failure"] + 1


@pytest.mark.slow
@pytest.mark.story(
    "`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6, then"
    " `twinfra up` again: the twin finishes, keepers are adopted, nothing is lost"
)
async def test_no_file_is_lost_when_the_notification_service_is_killed(prepared, federate):
    async with federate(prepared, without=("notifications",)) as federation:
        async with process(prepared, "notifications") as kill:
            await federation.notifications().create_trigger(
                "edge-c", "/incoming", "climate:scenarios"
            )
            for number in range(15):
                await federation.put("edge-c", f"/incoming/f{number}", b"%d" % number)
            await wait_for(lambda: members(federation), timeout_s=30)
            kill()
        for number in range(15, 20):
            await federation.put("edge-c", f"/incoming/f{number}", b"%d" % number)
        async with process(prepared, "notifications"):

            async def all_there():
                return len(await members(federation)) == 20

            await wait_for(all_there, timeout_s=60)
            (trigger,) = await federation.notifications().triggers()
            assert trigger.registered.last_error is None


async def members(federation):
    try:
        return await federation.datasets().list_files(Did("climate", "scenarios"))
    except (NotFound, TwinfraError):
        return []
