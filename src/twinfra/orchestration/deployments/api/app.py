"""The application of the deployments service, and the way between it and the services proxy."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from starlette.types import Receive, Scope, Send

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.core.http.app import RequestEdge, create_app, render_problem
from twinfra.orchestration.deployments.api.deployments import router as deployment_routes
from twinfra.orchestration.deployments.api.errors import SERVICES, render
from twinfra.orchestration.deployments.api.looking import router as looking_routes
from twinfra.orchestration.deployments.api.proxy import ServiceProxy
from twinfra.orchestration.deployments.api.streams import router as stream_routes
from twinfra.orchestration.deployments.news import News
from twinfra.orchestration.deployments.service.deployments import Deployments
from twinfra.orchestration.deployments.service.kit import Kit

NAME = "deployments"
TITLE = "twinfra orchestrator"


def build_app(
    kit: Kit,
    deployments: Deployments,
    authenticator: Authenticator,
    news: News,
    *,
    endpoints: dict[str, str],
    jwks: Callable[[], dict[str, Any]] = dict,
    ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """Return the INDIGO REST API and ours beside it.

    Args:
        kit: the ports that reading needs.
        deployments: the use cases.
        authenticator: of this service's audience.
        news: wakes event streams.
        endpoints: what ``/configuration`` shows.
        jwks: gives the keys that callbacks are signed with.
        ready: says whether ``/readyz`` answers 200.
    """
    caller = authenticated(authenticator)
    app = create_app(NAME, title=TITLE, authenticate=caller, ready=ready, render=render)
    guarded = [Depends(caller)]

    @app.get("/", tags=["operation"], summary="Who answers here")
    @app.get("/info", tags=["operation"], summary="Who answers here")
    async def info() -> dict[str, Any]:
        return {"name": TITLE, "projectVersion": version("twinfra"), "projectName": "twinfra"}

    @app.get("/configuration", tags=["operation"], dependencies=guarded, summary="Endpoints in use")
    async def configuration() -> dict[str, str]:
        return endpoints

    @app.get(
        "/.well-known/jwks.json", tags=["operation"], summary="Keys that callbacks are signed with"
    )
    async def keys() -> dict[str, Any]:
        return jwks()

    app.state.kit, app.state.deployments, app.state.news = kit, deployments, news
    for routes in (deployment_routes, looking_routes, stream_routes):
        app.include_router(routes, dependencies=guarded)
    return app


class Doors:
    """Sends requests below ``/services/`` to the proxy, all others to the API."""

    def __init__(self, api: FastAPI, proxy: ServiceProxy, *, body_limit_bytes: int) -> None:
        self._api = api
        self._proxy = RequestEdge(
            proxy, service=f"{NAME}-proxy", limit_bytes=body_limit_bytes, spell=render_problem
        )

    def openapi(self) -> dict[str, Any]:
        """Return the API's own description; the proxy has none."""
        return self._api.openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        inner = self._proxy if scope.get("path", "").startswith(SERVICES) else self._api
        await inner(scope, receive, send)
