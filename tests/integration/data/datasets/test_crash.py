"""``kill -9`` between handing a job over and noting it: the job is found again, not made twice."""

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from twinfra.core.tls import server_tls
from twinfra.data.datasets.client import Did, NewRule
from twinfra.data.transfers.client import JobState, TransfersClient
from twinfra.testkit.ports import free_port, listening
from twinfra.testkit.processes import running
from twinfra.testkit.serving import serving
from twinfra.testkit.waiting import wait_for


class Door:
    """Stands before the transfer service; what it does with an answer is up to the test."""

    def __init__(self, target, tls):
        self.target, self.tls = target, tls
        self.on_submitted = None
        self.submissions = 0

    async def handle(self, request):
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() in {
            "authorization", "content-type"}}  # fmt: skip
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                self.target + request.path_qs,
                data=body,
                headers=headers,
                ssl=self.tls,
            ) as answer,
        ):
            got = await answer.read()
            if request.method == "POST" and request.path == "/jobs":
                self.submissions += 1
                if self.on_submitted is not None:
                    await self.on_submitted()
            return web.Response(body=got, status=answer.status, content_type=answer.content_type)


@asynccontextmanager
async def opened(door, port, tls):
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", door.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.mark.story(
    "`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6, then"
    " `twinfra up` again: the twin finishes, keepers are adopted, nothing is lost"
)
async def test_job_is_not_submitted_twice_when_killed_before_it_was_noted(
    prepared, parts, tmp_path
):
    home = prepared.home
    port = free_port()
    with home.settings_file.open("a") as settings:
        settings.write(f'[federation.urls]\ntransfers = "https://localhost:{port}"\n')
    tls = server_tls(home.tls)
    door = Door(f"https://localhost:{home.port('transfers')}", prepared.tls_client())
    at = home.port("datasets")
    argv = [sys.executable, "-m", "twinfra.cli.main", "serve", "datasets", "--home", home.root]

    def process():
        return running(
            argv, log=tmp_path / "datasets.log", ready=lambda: listening(at), timeout_s=60
        )

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(opened(door, port, tls.context()))
        await stack.enter_async_context(serving(prepared, *parts.without_datasets(prepared)))
        with process() as first:

            async def die():
                first.kill()
                await asyncio.sleep(3600)

            federation = await stack.enter_async_context(parts.opened(prepared))
            await federation.upload("climate:one", {"f": b"good" * 500})
            door.on_submitted = die
            rule_id = await federation.datasets().add_rule(
                NewRule(Did("climate", "one"), 1, "HPC-B")
            )
            await wait_for(lambda: first.poll() is not None, timeout_s=30, what="the crash")
        assert first.returncode == -9
        door.on_submitted = None
        with process():
            stands = await federation.becomes(rule_id, "OK")
            assert stands.locks_ok == 1
            robot = TransfersClient(federation.service_http("datasets", "transfers"))
            jobs = await robot.jobs(states=list(JobState)[:-1])
            assert [job.state for job in jobs] == [JobState.FINISHED]
            assert door.submissions == 2
        assert await federation.get("hpc-b", "/datasets/climate/one/f") == b"good" * 500
