"""The batch driver keeps the driver's contract over both real hops of interLink."""

import asyncio

import pytest

from twinfra.access.tokens import TokenClient
from twinfra.compute.containers.images.model import ImageConfig, UnpackedImage
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.wiring import SiteFoundation, build_api, build_plugin
from twinfra.core.errors import NotFound, SiteRejected, Unavailable
from twinfra.core.http.client import HttpClient
from twinfra.orchestration.infrastructure.batch import BatchDriver
from twinfra.orchestration.infrastructure.model import Phase, Target
from twinfra.orchestration.infrastructure.pod import metadata_of
from twinfra.testkit.driver_contract import DriverContract, a_workload
from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.issuer import ALL_SCOPES, TestIssuer
from twinfra.testkit.serving import serving
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"


class PlainRuntime:
    """Starts containers as they are; the fake site starts nothing anyway."""

    name = "plain"

    def launch(self, spec):
        return Launch((), spec.command, env=dict(spec.env), inner_env=dict(spec.env))


class AnyImage:
    """Has every image but those that the test calls missing."""

    def __init__(self, root):
        self.root, self.refuses = root, None

    def resolve(self, reference):
        if self.refuses is not None:
            raise NotFound(self.refuses)
        return "sha256:" + "0" * 64

    def ensure(self, reference, credentials=None, *, policy=""):
        digest = self.resolve(reference)
        return UnpackedImage(reference, digest, self.root, ImageConfig(cmd=("/bin/true",)))


class BatchRig:
    """The driver against an API server and a plug-in over the fake back end."""

    def __init__(self, context, issuer, site, images):
        self.context, self.issuer, self.site, self.images = context, issuer, site, images
        self.api = context.url(f"interlink@{SITE}")
        tokens = TokenClient.from_context(context, "deployments")
        self.tokens = tokens
        self.driver = PersonsDriver(context.tls_client(), tokens.service, timeout_s=10)
        self.driver.person = issuer.token("alice", aud=self.api, scope=ALL_SCOPES)
        self.target = Target(SITE, self.api, "HPC-B")
        self.servers, self.clients = [], []

    def http(self, token):
        """Return a client that sends `token`."""

        async def source():
            return token

        made = HttpClient(self.api, tls=self.context.tls_client(), token=source)
        self.clients.append(made)
        return made

    async def knows_the_issuer(self):
        try:
            await self.driver.status(self.target, [a_workload().handle], restarting=False)
        except Unavailable:
            return False
        return True

    async def finish(self, uid, exit_code, log=""):
        name = await self._submitted(uid)
        self.site.write(name, log.encode())
        self.site.finish(name, exit_code)
        await self._until(uid, lambda seen: seen.exit_code is not None or seen.phase.final)

    async def lose(self, uid):
        self.site.lose(await self._submitted(uid))
        await self._until(uid, lambda seen: seen.phase.final)

    async def serve(self, uid, answer):
        async def greet(reader, writer):
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        self.servers.append(server)
        name = await self._submitted(uid)
        job = next(job for job in self.site.jobs.values() if job.spec.name == name)
        job.port = server.sockets[0].getsockname()[1]

    def reject(self, reason):
        self.images.refuses = reason

    def go_away(self):
        self.target = Target(SITE, "https://localhost:9", "HPC-B")

    def lose_next_answer(self):
        self.driver.lose_answers = 1

    def starts(self, uid):
        return len([job for job in self.site.jobs.values() if uid in job.spec.name])

    async def _submitted(self, uid):
        def named():
            return next((j.spec.name for j in self.site.jobs.values() if uid in j.spec.name), None)

        name = await wait_for(named, what=f"the job of {uid}")
        await self._until(uid, lambda seen: seen.phase is Phase.RUNNING)
        return name

    async def _until(self, uid, fits):
        work = a_workload(uid)

        async def so():
            found = await self.driver.status(self.target, [work.handle], restarting=False)
            return uid in found and fits(found[uid])

        await wait_for(so, what=f"the state of {uid}")


class PersonsDriver(BatchDriver):
    """Sends a real person's token, and can lose an answer after it was given."""

    person, lose_answers = "", 0

    async def create(self, target, workload, *, token):
        return await super().create(target, workload, token=self.person)

    def _client(self, target):
        client = super()._client(target)
        if self.lose_answers:
            self.lose_answers = 0
            real = client.create

            async def create(request, *, token=None):
                from twinfra.core.errors import UpstreamTimeout

                client.create = real
                await real(request, token=token)
                raise UpstreamTimeout("the answer was lost")

            client.create = create
        return client


@pytest.fixture
async def rig(context, tmp_path):
    with TestIssuer.for_home(context.home) as issuer:
        site, images = FakeSite(autostart=True), AnyImage(tmp_path / "rootfs")
        ground = Ground(PlainRuntime(), isolated=True, network="none")
        foundation = SiteFoundation(site, ground, images)
        services = (build_plugin(context, SITE, foundation), build_api(context, SITE))
        async with serving(context, *services):
            made = BatchRig(context, issuer, site, images)
            await wait_for(made.knows_the_issuer, timeout_s=60, what="the issuer's keys")
            yield made
            for server in made.servers:
                server.close()
            for client in made.clients:
                await client.close()
            await made.driver.close()
            await made.tokens.close()


class TestBatchDriver(DriverContract):
    """All questions of the contract, over sockets."""


async def test_person_is_refused_when_their_token_allows_no_jobs(rig):
    rig.driver.person = rig.issuer.token("alice", aud=rig.api, scope="compute.read")
    with pytest.raises(SiteRejected, match="allows compute"):
        await rig.driver.create(rig.target, a_workload(), token="")


async def test_pod_is_a_persons_own_when_made_with_their_token(rig):
    work = a_workload()
    await rig.driver.create(rig.target, work, token="")
    alice = InterlinkClient(rig.http(rig.driver.person))
    bob = InterlinkClient(
        rig.http(rig.issuer.token("bob", ("hydrology",), aud=rig.api, scope=ALL_SCOPES))
    )
    asked = [{"metadata": metadata_of(work.handle), "spec": {}, "status": {"phase": "Running"}}]
    assert [each.uid for each in await alice.status(asked)] == [work.uid]
    assert await bob.status(asked) == []
