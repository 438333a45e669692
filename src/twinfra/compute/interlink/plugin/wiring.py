"""Builds the plug-in of a site."""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.access.workloads import WorkloadRule
from twinfra.accounting.client import AccountingClient
from twinfra.compute.containers.model import Isolation
from twinfra.compute.interlink.data.admission import Admission
from twinfra.compute.interlink.data.doors import DataDoors
from twinfra.compute.interlink.data.inputs import InputStager
from twinfra.compute.interlink.data.outputs import OutputPublisher
from twinfra.compute.interlink.local_door import trusting
from twinfra.compute.interlink.plugin.api import PluginApi
from twinfra.compute.interlink.plugin.journal import Journal
from twinfra.compute.interlink.plugin.kit import SiteKit
from twinfra.compute.interlink.plugin.lifecycle import Lifecycle
from twinfra.compute.interlink.plugin.loops import PluginLoops
from twinfra.compute.interlink.plugin.ports import Images
from twinfra.compute.interlink.plugin.service import PluginService
from twinfra.compute.interlink.plugin.store import MIGRATIONS, OUTBOX, WORKFLOW, PodStore
from twinfra.compute.interlink.plugin.stream import PodStream
from twinfra.compute.interlink.plugin.workloads import Workloads
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.pods.rules import ClaimClass, Rules
from twinfra.compute.interlink.settings import PluginSettings
from twinfra.compute.interlink.usage import UsageMaker, UsagePost
from twinfra.compute.sites.ports import RunningSite, Site
from twinfra.compute.sites.settings import ComputeSettings, ProviderSettings
from twinfra.core.bus import Outbox
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Callback, Context, Listener, Service
from twinfra.core.workflow import Engine


@dataclass(frozen=True)
class SiteFoundation:
    """What a site's services stand on: its back end, its images, how its containers are run."""

    site: Site
    ground: Ground
    images: Images
    isolation: Isolation | None = None


def build_plugin(ctx: Context, name: str, foundation: SiteFoundation) -> Service:
    """Return the plug-in of site `name`."""
    service = f"plugin@{name}"
    settings = ctx.settings(PluginSettings, name)
    compute = ctx.settings(ComputeSettings, name)
    provider = ctx.settings(ProviderSettings, name)
    home = ctx.home.site(name)
    tokens = TokenClient.from_context(ctx, service)
    doors = DataDoors(
        rse=provider.rse or name.upper(),
        storage=settings.storage or home.storage,
        edge_url=ctx.url(f"edge@{name}"),
        datasets_url=ctx.url("datasets"),
        tokens=tokens,
        tls=ctx.tls_client(),
    )
    datasets = doors.datasets()
    own_url = ctx.url(service)
    accounting_url = ctx.url("accounting")
    kit = SiteKit(
        name=name,
        site=foundation.site,
        ground=foundation.ground,
        images=foundation.images,
        inputs=InputStager(doors, datasets, lifetime_s=settings.input_lifetime_s),
        outputs=OutputPublisher(doors, datasets, site=name, jobs=home.jobs),
        usage=UsageMaker(
            site=name,
            submit_host=f"{urlsplit(own_url).netloc}/{compute.backend}",
            queue=compute.backend,
            benchmark_hepscore23=provider.benchmark_hepscore23,
        ),
        jobs=home.jobs,
        settings=settings,
        clock=ctx.clock,
        rules=_rules(settings, foundation.ground),
    )
    database = ctx.database("plugin", folder=home.db)
    bus = ctx.bus(service)
    outbox = Outbox(database, OUTBOX, bus)
    journal = Journal(PodStore(database), outbox, name)
    lifecycle = Lifecycle(kit, journal)
    engine = Engine(database, WORKFLOW, ctx.clock, [lifecycle.workflow()])
    loops = PluginLoops(kit, journal, engine, lifecycle, bus)
    accounting = AccountingClient(
        HttpClient(accounting_url, tls=ctx.tls_client(), token=tokens.for_service(accounting_url))
    )
    use_cases = PluginService(
        kit,
        journal,
        engine,
        Admission(doors, datasets),
        frozenset(provider.groups),
        new_id=new_uuid,
        isolation=foundation.isolation,
    )
    authenticator = Authenticator.from_context(ctx, service)
    rules = [WorkloadRule(**entry.model_dump()) for entry in settings.workloads]
    audience = settings.pod_audience or ctx.url(f"interlink@{name}")
    workloads = Workloads(authenticator, rules, settings.unmapped, audience)
    stream = PodStream(journal, keepalive_s=settings.event_keepalive_s, most=settings.max_streams)
    api = PluginApi(
        service,
        use_cases,
        stream,
        authenticator,
        workloads,
        ready=lambda: True,
        max_body_bytes=settings.max_body_bytes,
        max_tunnels=settings.max_tunnels,
    )
    background: list[Callback] = [
        engine.run,
        outbox.run,
        loops.follow_site,
        loops.wake_changed,
        loops.hear_of_data,
        loops.forget_old,
        UsagePost(journal, accounting).run,
    ]
    start: list[Callback] = [lambda: database.migrate(MIGRATIONS)]
    stop: list[Callback] = [
        datasets.aclose,
        accounting.close,
        tokens.close,
        bus.close,
        database.close,
    ]
    if isinstance(foundation.site, RunningSite):
        start.append(foundation.site.open)
        background.insert(0, foundation.site.run)
        stop.insert(0, foundation.site.close)
    return Service(
        name=service,
        listeners=_doors(api, ctx.home.port(service), settings),
        background=background,
        start=start,
        drain=[loops.end_all_jobs],
        stop=stop,
    )


def _doors(api: PluginApi, port: int, settings: PluginSettings) -> list[Listener]:
    required = settings.client_certificates == "required"
    doors = [Listener(api.app(), port, client_ca=settings.client_ca_file, client_required=required)]
    if settings.socket is not None:
        doors.append(Listener(trusting(api.app()), uds=settings.socket))
    return doors


def _rules(settings: PluginSettings, ground: Ground) -> Rules:
    """Return what pods may have here; all run as the plug-in's own user."""
    mapped = settings.users == "mapped"
    return Rules(
        host_paths={path: mode == "rw" for path, mode in settings.host_paths.items()},
        classes={
            name: ClaimClass(str(entry.path or ""), entry.scope, entry.read_only)
            for name, entry in settings.storage_classes.items()
        },
        isolated=ground.isolated,
        uid=os.geteuid() if mapped else None,
        gids=frozenset({os.getegid(), *os.getgroups()}) if mapped else None,
    )
