"""A whole federation in its own processes: NATS, the hub and two sites with real containers."""

import subprocess
import zlib

import pytest

from twinfra.access.person_tokens import MemoryLogin, sign_in_here
from twinfra.cli.federation import children
from twinfra.compute.containers.handle import KeeperHandle
from twinfra.core.http.client import HttpClient
from twinfra.data.datasets.client import DatasetsClient, Did, FileSpec, NewCollection
from twinfra.data.notifications.client import NotificationsClient
from twinfra.orchestration.deployments.client import DeploymentsClient
from twinfra.orchestration.monitoring.client import MonitoringClient
from twinfra.testkit.images import busybox_image
from twinfra.testkit.waiting import wait_for

SETTINGS = """
[sites.cloud-a.provider]
kind = "cloud"
services = true
heartbeat_s = 1.0
[sites.cloud-a.compute]
images = ["{layout}"]
cpus = 4.0
slots = 8
[sites.hpc-b.provider]
kind = "hpc"
heartbeat_s = 1.0
benchmark_hepscore23 = 20.0
[sites.hpc-b.compute]
images = ["{layout}"]
cpus = 4.0
slots = 8
queue = true
[edge]
fsync = "none"
[deployments]
status_every_s = 2.0
site_lost_after_s = 600.0
"""
SITES = ("cloud-a", "hpc-b")


class Federation:
    """The processes, and clients that act as alice unless they say otherwise."""

    def __init__(self, context):
        self.context, self.people, self.clients = context, {}, []
        self.children = {child.name: child for child in children(context)}
        self.processes = {}

    def begin(self, name):
        log = self.context.home.logs / f"{name}.log"
        with log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                self.children[name].argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    async def ready(self, name):
        child = next(each for each in children(self.context) if each.name == name)
        log = self.context.home.logs / f"{name}.log"

        async def so():
            assert self.processes[name].poll() is None, log.read_text()[-3000:]
            return await child.ready()

        await wait_for(so, timeout_s=60, what=f"{name} is ready")

    async def start(self, *names):
        for name in names:
            self.begin(name)
            await self.ready(name)

    def kill(self, *names):
        """Kill processes at once, as a power cut would."""
        for name in names:
            self.processes[name].kill()
        for name in names:
            self.processes[name].wait(20)

    def stop(self):
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def sign_in(self, *names):
        for name in names:
            self.people[name] = await sign_in_here(self.context, name, MemoryLogin())

    def http(self, service, person="alice"):
        url = self.context.url(service)
        made = HttpClient(url, tls=self.context.tls_client(), token=self.people[person].source(url))
        self.clients.append(made)
        return made

    def deployments(self, person="alice"):
        return DeploymentsClient(self.http("deployments", person))

    def datasets(self, person="alice"):
        return DatasetsClient(self.http("datasets", person))

    def notifications(self, person="alice"):
        return NotificationsClient(self.http("notifications", person))

    async def sites_are_up(self):
        client = MonitoringClient(self.http("monitoring"))

        async def up():
            return {each.site for each in await client.statuses() if each.up} >= set(SITES)

        await wait_for(up, timeout_s=120, what="monitoring finds both sites up")

    async def put_dataset(self, name, site, **files):
        """Store files at a site's edge and register them as a closed dataset."""
        datasets, edge = self.datasets(), self.http(f"edge@{site}")
        did = Did("climate", name)
        await datasets.dids_add([NewCollection(did)], exist_ok=True)
        specs = []
        for file, body in files.items():
            raw, path = body.encode(), f"{name}/{file}"
            await edge.request("PUT", f"/dav/datasets/climate/{path}", data=raw)
            adler32 = f"{zlib.adler32(raw):08x}"
            specs.append(FileSpec(Did("climate", path), len(raw), adler32=adler32))
        await datasets.add_replicas(site.upper(), specs)
        await datasets.attach(did, [spec.did for spec in specs])

    def outputs(self, site):
        """Return what each attempt of each job at a site wrote, by pod."""
        found = {}
        for folder in self.context.home.site(site).jobs.glob("*/attempts/*/logs/main"):
            text = b"".join(log.read_bytes() for log in sorted(folder.glob("*.log")))
            found[folder.parents[3].name, folder.parents[1].name] = text.decode()
        return found

    async def close(self):
        for client in self.clients:
            await client.close()
        for person in self.people.values():
            await person.close()
        self.stop()
        for site in SITES:
            for folder in self.context.home.site(site).jobs.iterdir():
                if (folder / "attempts").exists():
                    await KeeperHandle(folder).prove_gone()


@pytest.fixture(scope="session")
def layout(tmp_path_factory):
    """The one image of all tests here."""
    folder = tmp_path_factory.mktemp("images")
    work = folder / "busybox"
    work.mkdir()
    busybox_image(folder / "layout", work)
    return folder / "layout"


@pytest.fixture
async def federation(context, layout):
    context.home.root.mkdir(parents=True, exist_ok=True)
    context.home.settings_file.write_text(SETTINGS.replace("{layout}", str(layout)))
    made = Federation(context)
    try:
        await made.start("nats", "hub", *(f"site-{site}" for site in SITES))
        await made.sign_in("alice", "bob")
        await made.sites_are_up()
        yield made
    finally:
        await made.close()
