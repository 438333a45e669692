"""The fake passes the suite that judges every back end."""

import asyncio

import pytest

from twinfra.compute.containers.keeper.model import ContainerPlan, Launch, PodPlan
from twinfra.compute.sites.model import JobSpec
from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.site_contract import SiteContract, SiteHouse


async def echo(reader, writer):
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


class TestFakeSite(SiteContract):
    @pytest.fixture
    async def house(self, tmp_path):
        site = FakeSite(autostart=True)
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        wishes = {}

        def job(uid, wish):
            main = ContainerPlan("main", Launch((), ("true",)))
            spec = JobSpec(PodPlan(uid, (main,)), tmp_path / uid)
            wishes[spec.name] = wish
            return spec

        submit = site.submit

        async def submit_and_script(spec):
            native_id = await submit(spec)
            wish = wishes.pop(spec.name, None)
            if wish is not None:
                site.write(spec.name, wish.output)
                if wish.echo_port:
                    site.jobs[native_id].port = server.sockets[0].getsockname()[1]
                elif not wish.hang:
                    site.finish(spec.name, wish.exit_code)
            return native_id

        async def lose(native_id):
            site.lose(site.jobs[native_id].spec.name)

        site.submit = submit_and_script
        yield SiteHouse(site, job, lose)
        server.close()
