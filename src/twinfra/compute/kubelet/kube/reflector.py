"""Keeps a reader up to date with a set of objects, whatever happens to the connection.

A list comes first, then its changes; a cut watch goes on from the last version seen; after
``410 Gone`` all is listed anew, and what vanished meanwhile is told as deleted.
"""

import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.errors import Gone
from twinfra.compute.kubelet.kube.model import Change, Meta, WatchEvent
from twinfra.compute.kubelet.kube.resources import Resource
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import SYSTEM_CLOCK, Clock

log = get_logger(__name__)

PAUSE_S = (0.1, 10.0)


class HasMeta(Protocol):
    """An object with metadata."""

    metadata: Meta


T = TypeVar("T", bound=HasMeta)


@dataclass(frozen=True)
class Synced:
    """All that there is has been told; `uids` are the objects that are there."""

    uids: frozenset[str]


class Reflector(Generic[T]):
    """Tells all objects that the selectors choose, and from then on each change.

    Args:
        client: on the API server.
        resource: what to follow.
        kind: the struct that an object is read into; it has ``metadata``.
        namespace: only in this one.
        fields: field selector.
        labels: label selector.
        clock: paces new attempts.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        kind: type[T],
        *,
        namespace: str = "",
        fields: str = "",
        labels: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client, self._resource, self._kind = client, resource, kind
        self._namespace, self._fields, self._labels = namespace, fields, labels
        self._clock = clock
        self._version = ""
        self._pause_s = PAUSE_S[0]

    async def follow(self) -> AsyncIterator[WatchEvent[T] | Synced]:
        """Yield for ever: objects as ADDED, then `Synced`; changes; after a gap all of it again.

        An object may be told again unchanged; who keeps state tells by ``resourceVersion``, and
        drops after a `Synced` what is not in it. Bookmarks are not told.
        """
        while True:
            try:
                if not self._version:
                    async for told in self._list():
                        yield told
                async for event in self._watch():
                    yield event
                self._pause_s = PAUSE_S[0]
            except Gone:
                log.info("watch_begins_anew", resource=self._resource.plural)
                self._version = ""
            except TwinfraError as error:
                await self._rest(error)

    async def _list(self) -> AsyncIterator[WatchEvent[T] | Synced]:
        uids: set[str] = set()
        version = ""
        async for page in self._client.pages(
            self._resource,
            self._namespace,
            kind=self._kind,
            fields=self._fields,
            labels=self._labels,
        ):
            for item in page.items or ():
                uids.add(item.metadata.uid)
                yield WatchEvent(Change.ADDED, item)
            version = page.metadata.resource_version
        self._version = version
        yield Synced(frozenset(uids))

    async def _watch(self) -> AsyncIterator[WatchEvent[T]]:
        async for event in self._client.watch(
            self._resource,
            self._namespace,
            kind=self._kind,
            version=self._version,
            fields=self._fields,
            labels=self._labels,
        ):
            self._pause_s = PAUSE_S[0]
            if event.change is not Change.BOOKMARK:
                yield event
            self._version = event.object.metadata.resource_version or self._version

    async def _rest(self, error: TwinfraError) -> None:
        log.info(
            "watch_interrupted", resource=self._resource.plural, code=error.code, why=error.detail
        )
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        await self._clock.sleep((error.retry_after_s or self._pause_s) * jitter)
        self._pause_s = min(PAUSE_S[1], self._pause_s * 2)


def gone(known: Iterable[str], synced: Synced) -> list[str]:
    """Return those of the `known` UIDs that a list no longer has."""
    return [uid for uid in known if uid not in synced.uids]
