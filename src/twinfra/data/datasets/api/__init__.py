"""The Rucio REST interface, and beside it ``/lineage`` which is ours.

Spells bodies, statuses and errors as Rucio does; decides nothing: that is ``service``. What Rucio
has and this server does not answers 501, what nobody has 404.
"""

from collections.abc import Callable

from fastapi import Depends, FastAPI, Request, Response

from twinfra.access.authenticator import Authenticator
from twinfra.core.errors import TwinfraError
from twinfra.core.http.app import create_app, render_problem
from twinfra.data.datasets.api import accounts, dids, lineage, meta, replicas, rses, rules
from twinfra.data.datasets.api.door import Services, caller_of
from twinfra.data.datasets.api.wire import render
from twinfra.data.datasets.errors import NotOffered

__all__ = ["Services", "build_app"]

KNOWN = (
    "accounts", "accountlimits", "archives", "config", "credentials", "dids", "export",
    "heartbeats", "identities", "import", "lifetime_exceptions", "locks", "meta", "nongrid_traces",
    "opendata", "redirect", "replicas", "requests", "rses", "rules", "scopes", "subscriptions",
    "traces", "vos",
)  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE"]
BODY_LIMIT_BYTES = 32 * 1024 * 1024


def build_app(
    services: Services,
    authenticator: Authenticator,
    *,
    ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """Return the application.

    Args:
        services: behind the routes.
        authenticator: tells who calls.
        ready: says whether ``/readyz`` answers 200.
    """
    caller = caller_of(authenticator, services.accounts)
    app = create_app(
        "datasets",
        title="twinfra datasets (Rucio)",
        authenticate=caller,
        ready=ready,
        render=_render,
        body_limit_bytes=BODY_LIMIT_BYTES,
    )
    for room in (accounts, meta, dids, replicas, rses, rules, lineage):
        app.include_router(room.routes(services, caller))

    async def not_offered(request: Request) -> Response:
        raise NotOffered(f"{request.method} {request.url.path} is not offered by this server")

    for root in KNOWN:
        for path in (f"/{root}", f"/{root}/{{rest:path}}"):
            app.add_api_route(
                path, not_offered, methods=METHODS, include_in_schema=False,
                dependencies=[Depends(caller)],
            )  # fmt: skip
    return app


def _render(request: Request, error: TwinfraError) -> Response:
    if request.url.path.startswith(f"{lineage.PREFIX}/"):
        return render_problem(request, error)
    return render(request, error)
