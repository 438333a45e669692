"""The HTTP interface of accounting: services report usage, people and services ask for it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import AwareDatetime, BaseModel, Field

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.access.model import Principal
from twinfra.accounting.model import Filter, schema, to_json
from twinfra.accounting.service import Accounting
from twinfra.core.http.app import create_app

DEFAULT_KEYS = "month,site,group"


class Batch(BaseModel):
    """Records to keep; each is judged by itself."""

    records: list[dict[str, Any]] = Field(json_schema_extra={"items": schema()})


class RejectionBody(BaseModel):
    """Why one record was not taken."""

    id: str
    reason: str


class ReceiptBody(BaseModel):
    """What became of a batch."""

    accepted: int
    repeated: int
    rejected: list[RejectionBody]


class PageBody(BaseModel):
    """Some records; `next` is the `after` of the next page."""

    records: list[dict[str, Any]]
    next: str | None = None


class SummariesBody(BaseModel):
    """Sums; quantities have their unit in the name."""

    summaries: list[dict[str, Any]]


def wanted_records(
    kind: Literal["job", "storage", "transfer"] | None = None,
    site: str | None = None,
    group: str | None = None,
    deployment: str | None = None,
    sub: str | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> Filter:
    """Return the filter that a request's query states."""
    after: datetime | None = since
    return Filter(
        kind=kind, site=site, group=group, deployment=deployment, sub=sub, since=after, until=until
    )


def build_app(accounting: Accounting, authenticator: Authenticator) -> FastAPI:
    """Return the application over the use cases."""
    guard = authenticated(authenticator)
    app = create_app("accounting", title="twinfra accounting", authenticate=guard)
    app.include_router(_records(accounting, guard))
    return app


def _records(accounting: Accounting, guard: Any) -> APIRouter:
    router = APIRouter(tags=["usage"])
    caller_type = Annotated[Principal, Depends(guard)]
    filter_type = Annotated[Filter, Depends(wanted_records)]

    @router.post("/records", summary="Report usage", response_model=ReceiptBody)
    async def post(batch: Batch, caller: caller_type) -> Any:
        return await accounting.take(caller, batch.records)

    @router.get("/records", summary="Ask for usage records", response_model=PageBody)
    async def page(
        caller: caller_type,
        wanted: filter_type,
        after: str | None = None,
        limit: Annotated[int | None, Query(ge=1)] = None,
    ) -> Any:
        records, more = await accounting.page(caller, wanted, after=after, limit=limit)
        return {"records": [to_json(record) for record in records], "next": more}

    @router.get("/summaries", summary="Ask for sums of usage", response_model=SummariesBody)
    async def summaries(caller: caller_type, wanted: filter_type, by: str = DEFAULT_KEYS) -> Any:
        keys = [name for name in by.split(",") if name]
        return {"summaries": await accounting.sums(caller, wanted, keys)}

    @router.get(
        "/records/{record_id:path}/apel",
        summary="The APEL job message of a record",
        response_class=PlainTextResponse,
    )
    async def apel(record_id: str, caller: caller_type) -> Response:
        return PlainTextResponse(await accounting.apel(caller, record_id))

    @router.get("/records/{record_id:path}/star", summary="The StAR document of a record")
    async def star(record_id: str, caller: caller_type) -> Response:
        text = await accounting.star(caller, record_id)
        return Response(text, media_type="application/xml")

    @router.get("/records/{record_id:path}", summary="One usage record")
    async def one(record_id: str, caller: caller_type) -> dict[str, Any]:
        return to_json(await accounting.record(caller, record_id))

    return router
