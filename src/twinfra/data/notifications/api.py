"""The routes of notifications; problem details for errors. Decides nothing: that is ``service``."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.access.model import Principal
from twinfra.core.bus import Event
from twinfra.core.errors import InvalidRequest
from twinfra.core.http.app import create_app
from twinfra.core.time import parse_rfc3339
from twinfra.data.notifications.feed import Feed
from twinfra.data.notifications.follow import Wish, all_types
from twinfra.data.notifications.model import EventFilter, check_path_prefix, check_types
from twinfra.data.notifications.service import NotificationService

BEGINNING = "beginning"
PLACE_DIGITS = 18


def build_app(
    service: NotificationService,
    feed: Feed,
    authenticator: Authenticator,
    *,
    ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """Return the application.

    Args:
        service: behind the routes.
        feed: behind ``GET /events``.
        authenticator: tells who calls.
        ready: says whether ``/readyz`` answers 200.
    """
    principal = authenticated(authenticator)
    app = create_app(
        "notifications", title="twinfra notifications", authenticate=principal, ready=ready
    )
    app.include_router(_subscriptions(service, principal))
    app.include_router(_triggers(service, principal))
    app.include_router(_events(service, feed, principal))
    return app


def _subscriptions(service: NotificationService, principal: Any) -> APIRouter:
    router = APIRouter(prefix="/subscriptions", tags=["subscriptions"])
    caller = Annotated[Principal, Depends(principal)]

    @router.post("", summary="Have events delivered as signed webhooks", status_code=201)
    async def create(request: Request, who: caller) -> Response:
        found, made = await service.subscribe(who, await _body(request))
        return JSONResponse(
            found.to_json(), 201 if made else 200, {"Location": f"/subscriptions/{found.id}"}
        )

    @router.get("", summary="Subscriptions that the caller may see")
    async def listing(who: caller) -> list[dict[str, Any]]:
        return [found.to_json() for found in await service.subscriptions(who)]

    @router.get("/{subscription_id}", summary="One subscription, and how far it is")
    async def show(subscription_id: str, who: caller) -> dict[str, Any]:
        return (await service.subscription(who, subscription_id)).to_json()

    @router.delete("/{subscription_id}", summary="End a subscription", status_code=204)
    async def remove(subscription_id: str, who: caller) -> Response:
        await service.unsubscribe(who, subscription_id)
        return Response(status_code=204)

    return router


def _triggers(service: NotificationService, principal: Any) -> APIRouter:
    router = APIRouter(prefix="/triggers", tags=["triggers"])
    caller = Annotated[Principal, Depends(principal)]

    @router.post("", summary="Let new files of a site join a dataset", status_code=201)
    async def create(request: Request, who: caller) -> Response:
        found, made = await service.set_trigger(who, await _body(request))
        return JSONResponse(
            found.to_json(), 201 if made else 200, {"Location": f"/triggers/{found.id}"}
        )

    @router.get("", summary="Triggers that the caller may see")
    async def listing(who: caller) -> list[dict[str, Any]]:
        return [found.to_json() for found in await service.triggers(who)]

    @router.get("/{trigger_id}", summary="One trigger, and how far it is")
    async def show(trigger_id: str, who: caller) -> dict[str, Any]:
        return (await service.trigger(who, trigger_id)).to_json()

    @router.delete("/{trigger_id}", summary="End a trigger", status_code=204)
    async def remove(trigger_id: str, who: caller) -> Response:
        await service.remove_trigger(who, trigger_id)
        return Response(status_code=204)

    return router


class EventQuery(BaseModel):
    """The query of ``GET /events``."""

    types: str | None = None
    since: str | None = None
    site: str | None = None
    path_prefix: str | None = None
    dataset: str | None = None
    subject_prefix: str | None = None

    def wish(self) -> Wish:
        """Return which events are asked for.

        Raises:
            InvalidRequest: a type or the moment cannot be one.
        """
        named = [part for part in (self.types or "").split(",") if part]
        types = check_types(named) if named else ()
        return Wish(all_types(types), (self.site,) if self.site else (), _moment(self.since))

    def filter(self) -> EventFilter:
        """Return what else narrows."""
        prefix = check_path_prefix(self.path_prefix) if self.path_prefix else None
        return EventFilter(
            path_prefix=prefix, dataset=self.dataset, subject_prefix=self.subject_prefix
        )


def _events(service: NotificationService, feed: Feed, principal: Any) -> APIRouter:
    router = APIRouter(prefix="/events", tags=["events"])
    caller = Annotated[Principal, Depends(principal)]

    @router.post("", summary="Publish an event of one's own type (CloudEvents JSON)")
    async def publish(request: Request, who: caller) -> Response:
        event, sequence = await service.publish(who, Event.from_json(await _body(request)))
        return JSONResponse({"id": event.id, "sequence": sequence}, 202)

    @router.get("", summary="Events as they come (server-sent), Last-Event-ID goes on")
    async def stream(
        who: caller,
        query: Annotated[EventQuery, Query()],
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        frames = await feed.open(
            who,
            query.wish(),
            query.filter(),
            after=_place(last_event_id),
            from_now=query.since is None,
        )
        return StreamingResponse(
            frames,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


async def _body(request: Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the body is not a JSON object")
    return body


def _moment(text: str | None) -> datetime | None:
    if text is None or text == BEGINNING:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise InvalidRequest(f"'since' is neither a moment nor {BEGINNING!r}: {text!r}") from error


def _place(text: str | None) -> int | None:
    if text is None or text == "":
        return None
    if not text.isdecimal() or len(text) > PLACE_DIGITS:
        raise InvalidRequest("Last-Event-ID is not a place in the stream")
    return int(text)
