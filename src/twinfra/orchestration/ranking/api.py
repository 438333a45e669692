"""Ranking's HTTP interface: ask, and ask why again."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.access.model import Principal
from twinfra.core.http.app import create_app
from twinfra.orchestration.ranking.model import Request
from twinfra.orchestration.ranking.service import RankingService

BODY_LIMIT_BYTES = 256 * 1024
MAX_MEMBERS = 1000
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Requirements(_Body):
    """What the workload asks of a site."""

    cpu: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    memory_bytes: Annotated[int, Field(ge=0, le=1 << 60)] = 512 << 20
    gpus: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    capabilities: Annotated[list[Word], Field(max_length=MAX_MEMBERS)] = []
    architecture: Word | None = None


class RankBody(_Body):
    """A workload that looks for a site."""

    requirements: Requirements = Requirements()
    inputs: Annotated[list[Text], Field(max_length=MAX_MEMBERS)] = []
    group: Text
    target: Word | None = None
    exclude: Annotated[list[Word], Field(max_length=MAX_MEMBERS)] = []
    deployment: Annotated[str, StringConstraints(max_length=255)] | None = None

    def request(self) -> Request:
        """Return what is asked."""
        wants = self.requirements
        return Request(
            cpu=wants.cpu,
            memory_bytes=wants.memory_bytes,
            gpus=wants.gpus,
            capabilities=tuple(wants.capabilities),
            architecture=wants.architecture,
            inputs=tuple(self.inputs),
            group=self.group.removeprefix("/"),
            target=self.target,
            exclude=tuple(self.exclude),
            deployment=self.deployment,
        )


def build_app(
    service: RankingService,
    authenticator: Authenticator,
    *,
    ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """Return the application."""
    principal = authenticated(authenticator)
    caller = Annotated[Principal, Depends(principal)]
    app = create_app(
        "ranking",
        title="twinfra ranking",
        authenticate=principal,
        ready=ready,
        body_limit_bytes=BODY_LIMIT_BYTES,
    )
    router = APIRouter(tags=["ranking"])

    @router.post("/rank", summary="Which sites will do, best first, and why; the answer is kept")
    async def rank(body: RankBody, who: caller) -> dict[str, Any]:
        return await service.rank(who, body.request())

    @router.get("/rankings/{ranking_id}", summary="An answer of the past")
    async def answer(ranking_id: str, who: caller) -> dict[str, Any]:
        return await service.answer(who, ranking_id)

    @router.get("/rankings", summary="The answers for a deployment, the newest first")
    async def answers(
        who: caller, deployment: Annotated[str, Query(max_length=255)]
    ) -> list[dict[str, Any]]:
        return await service.of_deployment(who, deployment)

    app.include_router(router)
    return app
