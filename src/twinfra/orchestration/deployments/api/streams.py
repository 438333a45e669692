"""The stream of what happens to a deployment: server-sent events from its kept history.

Each line has its number as event id; a reader that comes back with ``Last-Event-ID`` misses none.
Source: WHATWG HTML Living Standard, "Server-sent events".
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from twinfra.core.errors import RateLimited
from twinfra.orchestration.deployments.api.access import Asked
from twinfra.orchestration.deployments.model.records import Entry
from twinfra.orchestration.deployments.model.states import Status
from twinfra.orchestration.deployments.model.views import entry_view
from twinfra.orchestration.deployments.news import News
from twinfra.orchestration.deployments.service.kit import Kit

LOOK_AGAIN_S = 5.0
QUIET_LOOKS = 3
PAGE = 500
PLACE_MOST = 2**62
COMMENT = b": still here\n\n"


router = APIRouter(tags=["deployments"])


@router.get("/deployments/{deployment_id}/events", summary="What happens, as it happens")
async def events(
    deployment_id: str,
    ask: Asked,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    after: Annotated[int | None, Query(ge=0, le=PLACE_MOST)] = None,
    follow: bool = True,
) -> StreamingResponse:
    """The whole history, or what came after a line; then what comes, until it is deleted."""
    await ask.look(deployment_id)
    if ask.news.readers >= ask.kit.settings.stream_clients:
        raise RateLimited("too many readers of event streams", retry_after_s=LOOK_AGAIN_S)
    start = after if after is not None else _place(last_event_id or "")
    return StreamingResponse(
        _lines(ask.kit, ask.news, deployment_id, start, follow=follow),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _place(last_event_id: str) -> int:
    """Return the line that a reader has; one that is no number of ours means the beginning."""
    plain = last_event_id.isdecimal() and len(last_event_id) < len(str(PLACE_MOST))
    return int(last_event_id) if plain else 0


async def _lines(
    kit: Kit, news: News, deployment_id: str, after: int, *, follow: bool
) -> AsyncIterator[bytes]:
    quiet = 0
    with news.about(deployment_id) as room:
        while True:
            async with kit.store.view() as view:
                found = await view.history(deployment_id, after=after, limit=PAGE)
                gone = await view.deployment(deployment_id) is None
            for entry in found:
                after = entry.seq
                yield _frame(entry)
            if len(found) == PAGE:
                continue
            if gone or not follow or any(_is_end(entry) for entry in found):
                return
            quiet = 0 if await room.wait(LOOK_AGAIN_S) else quiet + 1
            if quiet >= QUIET_LOOKS:
                quiet = 0
                yield COMMENT


def _frame(entry: Entry) -> bytes:
    data = json.dumps(entry_view(entry), separators=(",", ":"))
    return f"id: {entry.seq}\nevent: {entry.kind}\ndata: {data}\n\n".encode()


def _is_end(entry: Entry) -> bool:
    return entry.kind == "status" and entry.body.get("status") == Status.DELETE_COMPLETE
