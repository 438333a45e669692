"""The FTS3 REST interface, so that Rucio and the ``fts-rest-*`` commands work against us unchanged.

Spells bodies, statuses and errors as FTS does (``{"status", "message"}``); decides nothing: that is
``service``. Rights are checked there too.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.access.model import Principal
from twinfra.core.errors import InvalidRequest, NotFound, TwinfraError
from twinfra.core.http.app import create_app, error_headers
from twinfra.core.telemetry import current_trace_id
from twinfra.core.time import Clock
from twinfra.data.transfers.model.records import Job, TransferFile
from twinfra.data.transfers.model.states import FileState, JobState
from twinfra.data.transfers.model.submission import parse_submission
from twinfra.data.transfers.service import JobService
from twinfra.data.transfers.service.jobs import OPEN_JOBS, JobFilter, owner_of
from twinfra.data.transfers.wire import (
    attempt_document,
    chosen,
    file_document,
    job_document,
    missing_job,
    root_document,
    whoami_document,
)

MAX_IDS = 1000
_SLASHES = re.compile(r"/{2,}")


def build_app(
    service: JobService,
    authenticator: Authenticator,
    clock: Clock,
    *,
    max_files: int,
    ready: Any = lambda: True,
) -> FastAPI:
    """Return the application.

    Args:
        service: behind the routes.
        authenticator: tells who calls.
        clock: for time windows of lists.
        max_files: a larger job is refused.
        ready: says whether ``/readyz`` answers 200.
    """
    principal = authenticated(authenticator)
    app = create_app(
        "transfers", title="twinfra transfers (FTS3)", authenticate=principal, ready=ready,
        render=_render,
    )  # fmt: skip
    app.include_router(_about(principal))
    app.include_router(_jobs(service, principal, clock, max_files))
    app.include_router(_job_parts(service, principal))
    app.add_middleware(_OneSlash)
    return app


class JobQuery(BaseModel):
    """The query of ``GET /jobs``, in FTS's words; ``time_window`` is in hours."""

    state_in: str | None = None
    user_dn: str | None = None
    vo_name: str | None = None
    dlg_id: str | None = None
    source_se: str | None = None
    dest_se: str | None = None
    time_window: int | None = Field(None, ge=0)
    fields: str | None = None
    limit: int = Field(500, ge=1)

    def filter(self, now: datetime) -> JobFilter:
        """Return what is asked for at the moment `now`."""
        hours = self.time_window
        return JobFilter(
            states=_states(self.state_in),
            vo=self.vo_name,
            delegation_id=self.dlg_id,
            user=self.user_dn,
            source_se=self.source_se,
            dest_se=self.dest_se,
            since=None if hours is None else now - timedelta(hours=hours),
            limit=self.limit,
        )


class _OneSlash:
    """Takes ``//jobs`` for ``/jobs``: FTS's own client puts a slash too many into every path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": _SLASHES.sub("/", scope["path"])}
        await self._app(scope, receive, send)


def _about(principal: Any) -> APIRouter:
    router = APIRouter(tags=["about"])

    @router.get("/", summary="Versions and links")
    async def root() -> dict[str, Any]:
        return root_document()

    @router.get("/whoami", summary="Who the token proves to call")
    async def whoami(who: Annotated[Principal, Depends(principal)]) -> dict[str, Any]:
        return whoami_document(who, owner_of(who))

    return router


def _jobs(service: JobService, principal: Any, clock: Clock, max_files: int) -> APIRouter:
    router = APIRouter(tags=["jobs"])
    caller = Annotated[Principal, Depends(principal)]

    @router.post("/jobs", summary="Submit a job", operation_id="submit_job")
    @router.put("/jobs", summary="Submit a job, as older clients do", operation_id="put_job")
    async def submit(request: Request, who: caller) -> dict[str, str]:
        submission = parse_submission(await _body(request), max_files=max_files)
        return {"job_id": await service.submit(who, submission)}

    @router.get("/jobs", summary="Jobs that the caller may see; by default those under way")
    async def listing(who: caller, query: Annotated[JobQuery, Query()]) -> list[dict[str, Any]]:
        jobs = await service.find(who, query.filter(clock.now()))
        files = _by_job(await service.files(jobs))
        return [chosen(job_document(job, files.get(job.job_id, ())), query.fields) for job in jobs]

    @router.get("/jobs/{job_ids}", summary="One job, or several separated by commas")
    async def show(job_ids: str, who: caller, files: str | None = None) -> Response:
        ids = _ids(job_ids)
        jobs = await service.jobs(who, ids)
        by_job = _by_job(await service.files(list(jobs.values())))
        if len(ids) == 1 and not jobs:
            raise NotFound(missing_job(ids[0])["http_message"])
        documents = [
            _with_files(jobs[job_id], by_job.get(job_id, ()), files)
            if job_id in jobs
            else missing_job(job_id)
            for job_id in ids
        ]
        return _many(ids, documents)

    @router.post("/jobs/{job_id}", summary="Change the priority of a job")
    async def modify(job_id: str, request: Request, who: caller) -> dict[str, Any]:
        body = await _body(request)
        params = body.get("params") if isinstance(body, Mapping) else None
        priority = params.get("priority") if isinstance(params, Mapping) else None
        if not isinstance(priority, int) or isinstance(priority, bool):
            raise InvalidRequest("only params.priority, a number from 1 to 5, can be changed")
        await service.set_priority(who, await service.job(who, job_id), priority)
        job = await service.job(who, job_id)
        return job_document(job, await service.files([job]))

    @router.delete("/jobs/{job_ids}", summary="Cancel one job, or several")
    async def cancel(job_ids: str, who: caller) -> Response:
        ids = _ids(job_ids)
        documents = [await _cancelled(service, who, job_id) for job_id in ids]
        if len(ids) == 1 and "job_state" not in documents[0]:
            raise NotFound(documents[0]["http_message"])
        return _many(ids, documents)

    return router


def _job_parts(service: JobService, principal: Any) -> APIRouter:
    router = APIRouter(tags=["files"])
    caller = Annotated[Principal, Depends(principal)]

    @router.get("/jobs/{job_id}/files", summary="The files of a job")
    async def files(job_id: str, who: caller) -> list[dict[str, Any]]:
        job = await service.job(who, job_id)
        return [file_document(file) for file in await service.files([job])]

    @router.get("/jobs/{job_id}/dm", summary="Deletions of a job: there are none")
    async def deletions(job_id: str, who: caller) -> list[dict[str, Any]]:
        await service.job(who, job_id)
        return []

    @router.get("/jobs/{job_id}/files/{file_id}/retries", summary="Tries of a file that failed")
    async def retries(job_id: str, file_id: int, who: caller) -> list[dict[str, Any]]:
        job = await service.job(who, job_id)
        return [attempt_document(each) for each in await service.attempts(job, file_id)]

    @router.delete("/jobs/{job_id}/files/{file_ids}", summary="Cancel some files of a job")
    async def cancel(job_id: str, file_ids: str, who: caller) -> Response:
        parts = _ids(file_ids)
        if not all(part.isdecimal() for part in parts):
            raise InvalidRequest(f"{file_ids!r} are not file ids")
        wanted = [int(part) for part in parts]
        _, left = await service.cancel(who, await service.job(who, job_id), wanted)
        states = {file.file_id: file.state for file in left}
        found = [states.get(file_id, FileState.UNKNOWN).value for file_id in wanted]
        return JSONResponse(found[0] if len(found) == 1 else found)

    @router.get("/jobs/{job_id}/{field}", summary="One field of a job")
    async def field(job_id: str, field: str, who: caller) -> Response:
        job = await service.job(who, job_id)
        document = job_document(job, await service.files([job]))
        if field not in document:
            raise NotFound(f"a job has no field {field!r}")
        return JSONResponse(document[field])

    return router


async def _cancelled(service: JobService, who: Principal, job_id: str) -> dict[str, Any]:
    found = (await service.jobs(who, [job_id])).get(job_id)
    if found is None:
        return missing_job(job_id)
    job, files = await service.cancel(who, found)
    status = "304 Not Modified" if found.state.final else "200 Ok"
    return job_document(job, files) | {"http_status": status}


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise InvalidRequest(f"Invalid JSON data: {error}") from error


def _ids(text: str) -> list[str]:
    ids = [part for part in text.split(",") if part]
    if not ids or len(ids) > MAX_IDS:
        raise InvalidRequest(f"between 1 and {MAX_IDS} ids can be asked for at once")
    return ids


def _states(text: str | None) -> tuple[JobState, ...]:
    if not text:
        return OPEN_JOBS
    known = {state.value: state for state in JobState}
    unknown = [part for part in text.split(",") if part not in known]
    if unknown:
        raise InvalidRequest(f"{unknown[0]!r} is no job state")
    return tuple(known[part] for part in text.split(","))


def _by_job(files: Sequence[TransferFile]) -> dict[str, list[TransferFile]]:
    found: dict[str, list[TransferFile]] = {}
    for file in files:
        found.setdefault(file.job_id, []).append(file)
    return found


def _with_files(job: Job, files: Sequence[TransferFile], fields: str | None) -> dict[str, Any]:
    document = job_document(job, files) | {"http_status": "200 Ok"}
    if fields is not None:
        document["files"] = [chosen(file_document(file), fields) for file in files]
    return document


def _many(ids: Sequence[str], documents: Sequence[dict[str, Any]]) -> Response:
    if len(ids) == 1:
        return JSONResponse(documents[0])
    same = all(document["http_status"].startswith("200") for document in documents)
    return JSONResponse(list(documents), 200 if same else 207)


def _render(request: Request, error: TwinfraError) -> Response:
    """Answer an error as FTS does; its clients read ``message``."""
    del request
    body = {
        "status": f"{error.status} {HTTPStatus(error.status).phrase}",
        "message": error.detail,
        "code": error.code,
        "retryable": error.retryable,
        "trace_id": current_trace_id(),
    }
    return JSONResponse(body, error.status, error_headers(error))
