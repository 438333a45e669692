"""Monitoring's HTTP interface: how the sites are, and: look at one now."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.core.http.app import create_app
from twinfra.orchestration.monitoring.service import Monitor

SiteName = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


def build_app(
    monitor: Monitor, authenticator: Authenticator, *, ready: Callable[[], bool] = lambda: True
) -> FastAPI:
    """Return the application; every route is for whoever has a good token."""
    principal = authenticated(authenticator)
    app = create_app("monitoring", title="twinfra monitoring", authenticate=principal, ready=ready)
    router = APIRouter(tags=["sites"], dependencies=[Depends(principal)])

    @router.get("/status", summary="How all sites are")
    async def statuses() -> list[dict[str, Any]]:
        return [status.to_json() for status in monitor.statuses()]

    @router.get("/status/{site}", summary="How one site is")
    async def status(site: SiteName) -> dict[str, Any]:
        return monitor.status(site).to_json()

    @router.post("/probe/{site}", summary="Look at a site now, and say how it is")
    async def probe(site: SiteName) -> dict[str, Any]:
        return (await monitor.probe_now(site)).to_json()

    app.include_router(router)
    return app
