"""The datasets service among real neighbours: issuer, accounting, transfers, edges, NATS."""

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zlib import adler32

import pytest

from twinfra.access.issuer.wiring import build as build_issuer
from twinfra.access.person_tokens import sign_in_here
from twinfra.access.tokens import TokenClient
from twinfra.accounting.client import AccountingClient
from twinfra.accounting.wiring import build as build_accounting
from twinfra.core.http.client import HttpClient
from twinfra.core.tls import server_tls
from twinfra.data.datasets.client import DatasetsClient, Did, FileSpec, NewCollection
from twinfra.data.datasets.wiring import build as build_datasets
from twinfra.data.edge.wiring import build as build_edge
from twinfra.data.transfers.wiring import build as build_transfers
from twinfra.testkit import servers
from twinfra.testkit.serving import serving
from twinfra.testkit.strangers import python_environment
from twinfra.testkit.waiting import wait_for

SITES = ("edge-c", "hpc-b", "cloud-a")
RUCIO = Path(__file__).parents[3] / "servers" / "rucio"
SETTINGS = """
[datasets]
retry_first_s = 0.1
usage_settle_s = 0.05
[transfers]
peers = ["*"]
retry_pause_s = 0.05
default_retries = 0
[edge]
peers = [{peers}]
peers_from_catalogue = false
fsync = "none"
shutdown_grace_s = 1.0
settle_s = 0.01
"""


@dataclass
class Federation:
    """What a test talks to, as alice unless it says otherwise."""

    context: object
    people: dict = field(default_factory=dict)
    clients: list = field(default_factory=list)

    def url(self, service):
        return self.context.url(service)

    def http(self, service, person="alice"):
        url = self.url(service)
        source = self.people[person].source(url)
        made = HttpClient(url, tls=self.context.tls_client(), token=source)
        self.clients.append(made)
        return made

    def datasets(self, person="alice"):
        return DatasetsClient(self.http("datasets", person))

    def service_http(self, name, service):
        """Return a client of `service` for the service `name`."""
        tokens = TokenClient.from_context(self.context, name)
        url = self.url(service)
        made = HttpClient(url, tls=self.context.tls_client(), token=tokens.for_service(url))
        self.clients += [made, tokens]
        return made

    def as_service(self, name):
        return DatasetsClient(self.service_http(name, "datasets"))

    def accounting(self):
        return AccountingClient(self.http("accounting"))

    async def put(self, site, path, body):
        await self.http(f"edge@{site}").request("PUT", f"/dav{path}", data=body)

    async def get(self, site, path):
        return (await self.http(f"edge@{site}").request("GET", f"/dav{path}")).body

    async def upload(self, name, files, sites=("edge-c",), joint="/"):
        """Put files at sites, register them, and make a dataset of them."""
        client, did = self.datasets(), Did.parse(name)
        specs = [
            FileSpec(
                Did(did.scope, f"{did.name}{joint}{file}"), len(body), f"{adler32(body):08x}",
                hashlib.md5(body).hexdigest(),
            )
            for file, body in files.items()
        ]  # fmt: skip
        for site in sites:
            for file, body in files.items():
                await self.put(site, f"/datasets/{did.scope}/{did.name}{joint}{file}", body)
            await client.add_replicas(site.upper(), specs)
        await client.dids_add([NewCollection(did)], exist_ok=True)
        await client.attach(did, [spec.did for spec in specs])
        return specs

    async def becomes(self, rule_id, state, timeout_s=40):
        client = self.datasets()

        async def so():
            rule = await client.get_rule(rule_id)
            return rule if rule.state.value == state else None

        return await wait_for(so, timeout_s=timeout_s, what=f"rule {state}")

    async def close(self):
        for client in self.clients:
            await client.close()
        for person in self.people.values():
            await person.close()


@pytest.fixture
def prepared(context, home):
    """A home with settings and a NATS server; the test starts the rest."""
    home.root.mkdir(parents=True, exist_ok=True)
    doors = ", ".join(f'"localhost:{home.port(f"edge@{site}")}"' for site in SITES)
    home.settings_file.write_text(SETTINGS.format(peers=doors))
    with servers.nats(home.nats, port=home.port("nats")):
        yield context


class Parts:
    """The services, to be run as a test likes."""

    @staticmethod
    def without_datasets(context):
        central = [build(context) for build in (build_issuer, build_accounting, build_transfers)]
        return central + [build_edge(context, site) for site in SITES]

    @staticmethod
    def everything(context):
        return [*Parts.without_datasets(context), build_datasets(context)]

    @staticmethod
    @asynccontextmanager
    async def opened(context):
        """Sign people in and register the storages; all services run already."""
        made = Federation(context)
        try:
            for person in ("alice", "bob"):
                made.people[person] = await sign_in_here(context, person)
            robot = made.as_service("plugin@edge-c")
            for site in SITES:
                await robot.register_rse(
                    site.upper(), base_url=made.url(f"edge@{site}"), attributes={"site": site}
                )
            yield made
        finally:
            await made.close()


@pytest.fixture
def parts():
    return Parts


@pytest.fixture
async def federation(prepared):
    async with serving(prepared, *Parts.everything(prepared)), Parts.opened(prepared) as made:
        yield made


@pytest.fixture(scope="session")
def rucio_bin():
    return python_environment(RUCIO)


class RucioCommand:
    """Rucio's own command, unmodified, with a bearer token in a file."""

    def __init__(self, program, federation, folder):
        self._program, self._federation, self._folder = program, federation, folder
        url = federation.url("datasets")
        cafile = server_tls(federation.context.home.tls).cafile
        (folder / "rucio.cfg").write_text(
            f"[client]\nrucio_host = {url}\nauth_host = {url}\nauth_type = oidc\n"
            f"ca_cert = {cafile}\naccount = alice\nrequest_retries = 1\n"
        )

    async def run(self, *words, token=None, succeeds=True):
        """Run it and return what it printed; it does not always fail by its exit code."""
        url = self._federation.url("datasets")
        token = token or await self._federation.people["alice"].token(url)
        (self._folder / "token").write_text(token)
        environment = {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "RUCIO_CONFIG": str(self._folder / "rucio.cfg"),
            "BEARER_TOKEN_FILE": str(self._folder / "token"),
            "NO_PROXY": "*",
            "COLUMNS": "300",
        }
        process = await asyncio.create_subprocess_exec(
            self._program, *words, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=environment, cwd=self._folder,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 100)
        text = out.decode()
        assert succeeds is None or (process.returncode == 0) is succeeds, text
        return text


@pytest.fixture
def rucio(federation, rucio_bin, tmp_path):
    folder = tmp_path / "rucio"
    folder.mkdir()
    return RucioCommand(rucio_bin / "rucio", federation, folder)
