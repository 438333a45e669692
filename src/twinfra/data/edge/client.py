"""The typed client of an edge's event stream, in dCache's words; works against dCache too.

Find or create a channel by a client id, subscribe, read from the last event seen. Bytes are not
its business: those go through ``twinfra.data.storage``. Its neighbour over the wire is ``events``.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from twinfra.core.errors import UpstreamFault
from twinfra.core.http.client import HttpClient, Reply, error_of
from twinfra.data.edge.model import StorageEvent

__all__ = ["ALL_CHANGES", "EdgeClient", "Frame", "StorageEvent"]

EVENTS = "/api/v1/events"
ALL_CHANGES = ("IN_CLOSE_WRITE", "IN_DELETE", "IN_MOVE")
EVENT_LOSS = "EVENT_LOSS"


@dataclass(frozen=True)
class Frame:
    """One server-sent event.

    Attributes:
        kind: ``inotify``, or ``SYSTEM`` for management.
        id: where to go on from: give it back as `last_event_id`; none on SYSTEM frames.
        data: the JSON of the frame; for ``inotify``: ``event`` with ``name`` and ``mask``, and
            ``subscription``; for ``SYSTEM``: ``type``.
        storage: the change as our own edges tell it; none from a dCache, or on a frame that another
            frame of the same change follows.
    """

    kind: str
    id: str | None
    data: dict[str, Any]
    storage: StorageEvent | None = None

    @property
    def lost(self) -> bool:
        """Whether events were lost before this frame: compare your own list with the tree."""
        return self.kind == "SYSTEM" and self.data.get("type") == EVENT_LOSS


class EdgeClient:
    """Speaks to the events API of one edge.

    Args:
        http: a client on the edge's base URL, with the token of the caller.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def channel(self, client_id: str, *, timeout_s: int = 86400) -> str:
        """Return the URL of the caller's channel `client_id`, made if there is none.

        Raises:
            RateLimited: the caller has too many channels.
        """
        found = await self._http.request(
            "GET", f"{EVENTS}/channels", params={"client-id": client_id}
        )
        urls = found.json()
        if urls:
            url = str(urls[0])
        else:
            made = await self._http.request(
                "POST", f"{EVENTS}/channels", json={"client-id": client_id}, expect=(201,)
            )
            url = _location(made)
        await self._http.request("PATCH", url, json={"timeout": timeout_s}, expect=(200, 204))
        return url

    async def subscribe(
        self,
        channel: str,
        path: str = "/",
        *,
        flags: Sequence[str] = ALL_CHANGES,
        recursive: bool = True,
    ) -> str:
        """Return the URL of a subscription of `channel` to changes at `path`; asking again is fine.

        Args:
            channel: its URL.
            path: a directory below ``/dav``, or a file.
            flags: inotify's names.
            recursive: also everything below; ours only, a dCache refuses it.

        Raises:
            InvalidRequest: there is no such path, or it may not be read.
        """
        selector: dict[str, Any] = {"path": path, "flags": list(flags)}
        if recursive:
            selector["recursive"] = True
        reply = await self._http.request(
            "POST", f"{channel}/subscriptions/inotify", json=selector, expect=(201, 303)
        )
        return _location(reply)

    async def frames(
        self, channel: str, *, last_event_id: str | None = None
    ) -> AsyncIterator[Frame]:
        """Give frames as they come, until the edge ends the stream or the caller stops.

        Args:
            channel: its URL.
            last_event_id: the last one worked on: everything after it is given, none twice.
                Without it only what happens from now on.

        Raises:
            NotFound: the channel is gone; make it again.
            Unavailable: the connection broke; come back with the last id.
        """
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        async with self._http.stream("GET", channel, headers=headers) as answer:
            if answer.status != 200:
                reply = Reply(answer.status, answer.headers, await answer.read())
                raise error_of(reply, f"GET {channel}")
            fields: dict[str, str] = {}
            async for raw in answer.content:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                    continue
                if "data" in fields:
                    yield _frame(fields)
                fields = {}

    async def delete_channel(self, channel: str) -> None:
        """Delete a channel; one that is gone already is fine."""
        await self._http.request("DELETE", channel, expect=(200, 204, 404))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def _location(reply: Reply) -> str:
    url = reply.headers.get("Location", "")
    if not url:
        raise UpstreamFault("the edge named no Location")
    return url


def _frame(fields: dict[str, str]) -> Frame:
    try:
        data = json.loads(fields["data"])
        storage = StorageEvent.from_json(data["storage"]) if "storage" in data else None
    except (ValueError, KeyError, TypeError) as error:
        raise UpstreamFault("an event of the edge is not of the agreed form") from error
    return Frame(fields.get("event", "message"), fields.get("id"), data, storage)
