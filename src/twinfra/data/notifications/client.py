"""The typed client of the notification service: subscriptions, triggers and events.

Knows the service's routes; keeps no state. Its neighbour over the wire is ``api.py``.
"""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twinfra.core.bus import Event
from twinfra.core.http.client import HttpClient, Reply, error_of
from twinfra.data.notifications.model import EventFilter, Subscription, Trigger

__all__ = ["EventFilter", "NotificationsClient", "Subscription", "Trigger"]


class NotificationsClient:
    """Speaks to the notification service.

    Args:
        http: a client on the service's base URL; its token is used unless a call brings its own.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def subscribe(
        self,
        types: Sequence[str],
        sink_url: str,
        *,
        name: str | None = None,
        filter: EventFilter | None = None,  # noqa: A002 - the word of the document
        group: str | None = None,
        token: str | None = None,
    ) -> Subscription:
        """Have events delivered to `sink_url` as signed webhooks, from now on.

        The same `name` by the same person with the same wishes gives the subscription that exists
        (with its secret), so that a caller may repeat this after a crash.

        Raises:
            InvalidRequest: the sink is not registered, or a wish is not understood.
            InsufficientScope: the caller is not in `group`.
            Conflict: `name` exists with other wishes.
        """
        body = {
            "name": name,
            "types": list(types),
            "filter": (filter or EventFilter()).to_json(),
            "sink": {"url": sink_url},
            "group": group,
        }
        reply = await self._http.request("POST", "/subscriptions", json=body, token=token)
        return Subscription.from_json(reply.json())

    async def subscriptions(self, *, token: str | None = None) -> list[Subscription]:
        """Return the subscriptions that the caller may see."""
        reply = await self._http.request("GET", "/subscriptions", token=token)
        return [Subscription.from_json(body) for body in reply.json()]

    async def subscription(self, subscription_id: str, *, token: str | None = None) -> Subscription:
        """Return one subscription.

        Raises:
            NotFound: there is none, or the caller may not know of it.
        """
        reply = await self._http.request("GET", f"/subscriptions/{subscription_id}", token=token)
        return Subscription.from_json(reply.json())

    async def unsubscribe(self, subscription_id: str, *, token: str | None = None) -> None:
        """End a subscription; one that is gone already is fine."""
        await self._http.request(
            "DELETE", f"/subscriptions/{subscription_id}", token=token, expect=(204, 404)
        )

    async def create_trigger(
        self,
        site: str,
        path_prefix: str,
        dataset: str,
        *,
        name: str | None = None,
        pattern: str | None = None,
        existing: bool = False,
        token: str | None = None,
    ) -> Trigger:
        """Let new files below `path_prefix` of `site` join `dataset` (``scope:name``).

        Args:
            site: the site's name.
            path_prefix: below the site's ``/dav``.
            dataset: made when missing.
            name: repeating the same wishes under the same name gives the trigger that exists.
            pattern: shell pattern for the file's own name.
            existing: also take files that the event stream knows from before.
            token: instead of the client's own.

        Raises:
            InsufficientScope: the caller is not in the group of the dataset's scope.
        """
        body = {
            "name": name,
            "site": site,
            "path_prefix": path_prefix,
            "dataset": dataset,
            "pattern": pattern,
            "existing": existing,
        }
        reply = await self._http.request("POST", "/triggers", json=body, token=token)
        return Trigger.from_json(reply.json())

    async def triggers(self, *, token: str | None = None) -> list[Trigger]:
        """Return the triggers that the caller may see."""
        reply = await self._http.request("GET", "/triggers", token=token)
        return [Trigger.from_json(body) for body in reply.json()]

    async def delete_trigger(self, trigger_id: str, *, token: str | None = None) -> None:
        """End a trigger; what it registered stays."""
        await self._http.request(
            "DELETE", f"/triggers/{trigger_id}", token=token, expect=(204, 404)
        )

    async def publish(self, event: Event, *, token: str | None = None) -> int:
        """Publish an event of the caller's own type; returns its place in the stream.

        Raises:
            InsufficientScope: the type is one of twinfra's own.
        """
        reply = await self._http.request(
            "POST",
            "/events",
            data=json.dumps(event.to_json()).encode(),
            headers={"Content-Type": "application/cloudevents+json"},
            token=token,
        )
        return int(reply.json()["sequence"])

    async def events(
        self,
        types: Sequence[str] = (),
        *,
        since: str | None = None,
        after: int | None = None,
        site: str | None = None,
        token: str | None = None,
    ) -> AsyncIterator[Event]:
        """Give events as they come, until the caller stops or the service goes.

        Args:
            types: event types, each may end in ``.*``; default: all.
            since: a moment (RFC 3339) or ``beginning``; default: from now.
            after: place in the stream of the last event seen; wins over `since`.
            site: only events of this site.
            token: instead of the client's own.
        """
        params = {"types": ",".join(types) or None, "since": since, "site": site}
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        async with self._http.stream(
            "GET", "/events", params=params, headers=headers, token=token
        ) as answer:
            if answer.status != 200:
                reply = Reply(answer.status, answer.headers, await answer.read())
                raise error_of(reply, "GET /events")
            frame: dict[str, str] = {}
            async for raw in answer.content:
                line = raw.decode().rstrip("\r\n")
                if not line and "data" in frame:
                    yield Event.from_json(json.loads(frame["data"]), sequence=_place(frame))
                    frame = {}
                elif line and not line.startswith(":"):
                    name, _, value = line.partition(":")
                    frame[name] = value.removeprefix(" ")


def _place(frame: dict[str, Any]) -> int | None:
    return int(frame["id"]) if frame.get("id", "").isdecimal() else None
