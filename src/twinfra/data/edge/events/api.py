"""The events API below ``/api/v1/events``: channels, subscriptions, streams; dCache's statuses."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from twinfra.access.model import Principal
from twinfra.core.errors import InsufficientScope, InvalidRequest
from twinfra.core.time import Clock
from twinfra.data.edge.events import schemas
from twinfra.data.edge.events.channels import Channel, Channels
from twinfra.data.edge.events.frames import Selector
from twinfra.data.edge.events.stream import Stream
from twinfra.data.edge.files.tree import Found
from twinfra.data.edge.paths import resource_at
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange

ROOT = "/api/v1/events"
JSON = "application/json"
INOTIFY = "inotify"


class EventsApi:
    """Answers requests of the events API.

    Args:
        site: whose events.
        channels: keeps channels.
        clock: for streams.
    """

    def __init__(self, site: Site, channels: Channels, clock: Clock) -> None:
        self._site, self._channels, self._clock = site, channels, clock

    async def handle(self, exchange: Exchange, path: str, query: str) -> None:
        """Answer one request.

        Args:
            exchange: the request.
            path: below `ROOT`.
            query: of the URL.

        Raises:
            TwinfraError, HttpRefusal: how it is refused.
        """
        principal = await self._site.identify(exchange)
        steps = [step for step in path.split("/") if step]
        match steps:
            case []:
                _only(exchange, "GET")
                await _answer(exchange, schemas.about(self._site.settings))
            case ["eventTypes", *rest]:
                _only(exchange, "GET")
                await _answer(exchange, _event_types(rest))
            case ["channels"]:
                await self._channel_list(exchange, principal, query)
            case ["channels", channel_id, *rest]:
                channel = self._own(channel_id, principal)
                await self._channel(exchange, channel, principal, rest)
            case _:
                raise HttpRefusal(404)

    def _own(self, channel_id: str, principal: Principal) -> Channel:
        channel = self._channels.find(channel_id)
        if channel.owner != owner_of(principal):
            raise InsufficientScope("this channel is somebody else's")
        return channel

    async def _channel_list(self, exchange: Exchange, principal: Principal, query: str) -> None:
        owner = owner_of(principal)
        if exchange.head.method == "POST":
            body = await self._body(exchange)
            client_id = body.get("client-id")
            if set(body) - {"client-id"} or not isinstance(client_id, (str, type(None))):
                raise InvalidRequest("a channel is made of nothing, or of a client-id")
            made = await self._channels.make(owner, client_id)
            await exchange.answer(201, headers=[("Location", self._url(made))])
            return
        _only(exchange, "GET", "POST")
        owned = self._channels.owned(owner)
        wanted = parse_qs(query, keep_blank_values=True).get("client-id")
        if wanted is not None:
            owned = [channel for channel in owned if (channel.client_id or "") == wanted[0]]
        await _answer(exchange, [self._url(channel) for channel in owned])

    async def _channel(
        self, exchange: Exchange, channel: Channel, principal: Principal, rest: Sequence[str]
    ) -> None:
        match (exchange.head.method, *rest):
            case ("GET",) if "text/event-stream" in exchange.head.headers.get("accept", ""):
                stream = Stream(self._site, self._channels, self._clock, self._url(channel))
                await stream.run(exchange, channel, principal)
            case ("GET",):
                await _answer(exchange, {"timeout": channel.timeout_s})
            case ("PATCH",):
                body = await self._body(exchange)
                if set(body) != {"timeout"}:
                    raise InvalidRequest("only the timeout can be changed")
                await self._channels.set_timeout(channel, body["timeout"])
                await exchange.answer(204)
            case ("DELETE",):
                await self._channels.delete(channel)
                await exchange.answer(204)
            case (_, "subscriptions", *further):
                await self._subscriptions(exchange, channel, principal, further)
            case (_,):
                raise HttpRefusal(405, headers=[("Allow", "GET, PATCH, DELETE")])
            case _:
                raise HttpRefusal(404)

    async def _subscriptions(
        self, exchange: Exchange, channel: Channel, principal: Principal, rest: Sequence[str]
    ) -> None:
        match (exchange.head.method, *rest):
            case ("GET",):
                known = [self._subscription_url(channel, s.id) for s in channel.subscriptions]
                await _answer(exchange, known)
            case ("POST", event_type):
                await self._subscribe(exchange, channel, principal, event_type)
            case ("GET", "inotify", subscription_id):
                subscription = self._channels.subscription(channel, subscription_id)
                await _answer(exchange, dict(subscription.selector.text))
            case ("DELETE", "inotify", subscription_id):
                subscription = self._channels.subscription(channel, subscription_id)
                await self._channels.unsubscribe(channel, subscription)
                await exchange.answer(204)
            case _:
                raise HttpRefusal(405 if len(rest) < 2 else 404)

    async def _subscribe(
        self, exchange: Exchange, channel: Channel, principal: Principal, event_type: str
    ) -> None:
        if event_type != INOTIFY:
            raise HttpRefusal(404, "there is no such event type")
        selector = Selector.from_json(await self._body(exchange))
        await self._check_path(selector, principal)
        made, is_new = await self._channels.subscribe(channel, selector)
        location = [("Location", self._subscription_url(channel, made.id))]
        await exchange.answer(201 if is_new else 303, headers=location)

    async def _check_path(self, selector: Selector, principal: Principal) -> None:
        permits = self._site.authorizer.permits
        if not principal.is_service and not permits(principal, "list", selector.path):
            raise InvalidRequest("the token does not allow to watch this path")
        parts = resource_at(selector.path).parts
        if {".", ".."} & set(parts):
            raise InvalidRequest("the path climbs")
        try:
            found: Found = await self._site.io(self._site.tree.find, parts)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidRequest("there is no such path") from error
        if selector.only_directory and not found.is_directory:
            raise InvalidRequest("the path is no directory")

    async def _body(self, exchange: Exchange) -> dict[str, Any]:
        raw = await exchange.body.read(self._site.settings.max_xml_bytes)
        try:
            body = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("the body is not JSON") from error
        if not isinstance(body, dict):
            raise InvalidRequest("the body is a JSON object")
        return body

    def _url(self, channel: Channel) -> str:
        return f"{self._site.base_url}{ROOT}/channels/{channel.id}"

    def _subscription_url(self, channel: Channel, subscription_id: str) -> str:
        return f"{self._url(channel)}/subscriptions/{INOTIFY}/{subscription_id}"


def owner_of(principal: Principal) -> str:
    """Return what tells one owner of channels from another: issuer and subject."""
    return f"{principal.issuer}|{principal.sub}"


def _event_types(rest: Sequence[str]) -> Any:
    match rest:
        case []:
            return [INOTIFY]
        case ["inotify"]:
            return {"description": schemas.DESCRIPTION}
        case ["inotify", "selector"]:
            return schemas.selector()
        case ["inotify", "event"]:
            return schemas.event()
    raise HttpRefusal(404)


def _only(exchange: Exchange, *methods: str) -> None:
    if exchange.head.method not in methods:
        raise HttpRefusal(405, headers=[("Allow", ", ".join(methods))])


async def _answer(exchange: Exchange, document: Any) -> None:
    await exchange.answer(200, json.dumps(document), content_type=JSON)
