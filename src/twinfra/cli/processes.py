"""Which services there are, and a process that runs some of them."""

import importlib
from collections.abc import Mapping

from twinfra.core.errors import InvalidRequest
from twinfra.core.service import Context, Service, Stop, run_services
from twinfra.core.settings import site_names
from twinfra.core.telemetry import configure_logging

HUB = "hub"
INTERLINK = "interlink"
WIRING: Mapping[str, str] = {
    "issuer": "twinfra.access.issuer.wiring",
    "catalogue": "twinfra.orchestration.catalogue.wiring",
    "monitoring": "twinfra.orchestration.monitoring.wiring",
    "accounting": "twinfra.accounting.wiring",
    "transfers": "twinfra.data.transfers.wiring",
    "datasets": "twinfra.data.datasets.wiring",
    "notifications": "twinfra.data.notifications.wiring",
    "ranking": "twinfra.orchestration.ranking.wiring",
    "deployments": "twinfra.orchestration.deployments.wiring",
    "dashboard": "twinfra.dashboard.wiring",
}
"""The central services, in the order in which they start."""


def central_services(context: Context, name: str) -> list[Service]:
    """Build the service `name`, or all central ones for ``hub``.

    Raises:
        InvalidRequest: there is no such service.
    """
    if name != HUB and name not in WIRING:
        there = ", ".join((HUB, *WIRING, f"{INTERLINK}@SITE"))
        raise InvalidRequest(f"no service {name!r}; there are: {there}")
    chosen = WIRING if name == HUB else [name]
    return [importlib.import_module(WIRING[each]).build(context) for each in chosen]


def interlink_api(context: Context, site: str) -> Service:
    """Build the interLink API server of a site alone, before the plug-in that its settings name.

    Args:
        context: of the process.
        site: its name in the settings; empty: the only one there.

    Raises:
        InvalidRequest: there is no such site, or more than one and none was named.
    """
    known = site_names(context.home)
    name = site or (known[0] if len(known) == 1 else "")
    if name not in known:
        wanted = f"no site {site!r}" if site else f"name a site, as {INTERLINK}@SITE"
        there = ", ".join(known) or "none"
        raise InvalidRequest(f"{wanted}; in {context.home.settings_file} there are: {there}")
    built: Service = importlib.import_module("twinfra.compute.interlink.wiring").build_api(
        context, name
    )
    return built


def run_process(context: Context, name: str, services: list[Service]) -> None:
    """Run `services` in this process until a signal ends it."""
    configure_logging(name)

    async def serve() -> None:
        stop = Stop()
        stop.on_signals()
        await run_services(context, services, stop=stop)

    import uvloop  # noqa: PLC0415 - only a process that serves needs it

    uvloop.run(serve())
