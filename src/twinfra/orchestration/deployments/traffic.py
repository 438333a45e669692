"""Ways to the pods of services: one tunnel and one pool of kept connections an attempt.

Knows which attempt serves a node now, how many requests are under way to each, and closes what is
no longer used. The proxy (``api.proxy``) sends requests through it; the steps of a service ask it
whether a version is ready and drained.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from twinfra.core.errors import NotFound, RateLimited, TwinfraError, Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.orchestration.deployments.model.intent import Intent
from twinfra.orchestration.deployments.model.records import Attempt
from twinfra.orchestration.deployments.model.states import AttemptState, Role, RunState
from twinfra.orchestration.deployments.store import Store, View
from twinfra.orchestration.infrastructure.model import Handle, Target
from twinfra.orchestration.infrastructure.ports import Driver, Tunnel

log = get_logger(__name__)

KNOWN_FOR_S = 1.0
KEPT_IDLE_S = 2.0
PROBE_TIMEOUT_S = 2.0
SILENCE_S = 0.2
AGAIN_S = 1.0


@dataclass(frozen=True)
class Route:
    """Where requests for a service go, and whose they may be; no attempt: nothing serves now."""

    node: str
    deployment: str
    issuer: str
    owner: str
    group: str
    attempt: str | None
    reason: str
    looked_at: float


@dataclass
class _Lane:
    """An attempt's tunnel and the connections kept through it."""

    tunnel: Tunnel
    session: aiohttp.ClientSession
    readiness_path: str | None
    under_way: int = 0


@dataclass(frozen=True)
class _Place:
    target: Target
    handle: Handle
    port: int
    readiness_path: str | None = field(default=None)


class ServiceTraffic:
    """Requests to services; a `Traffic`.

    Args:
        driver: opens tunnels.
        clock: ages what is known of routes.
        most: requests to one attempt at once.
    """

    def __init__(self, driver: Driver, clock: Clock, *, most: int) -> None:
        self._driver, self._clock, self._most = driver, clock, most
        self._store: Store | None = None
        self._routes: dict[str, Route] = {}
        self._lanes: dict[str, _Lane] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._switched: dict[str, int] = {}

    def use(self, store: Store) -> None:
        """Take the store, which is made after this."""
        self._store = store

    async def route(self, node_id: str) -> Route:
        """Return where requests for a service go; known for a second, then looked up again.

        Raises:
            NotFound: there is no such service.
        """
        now = self._clock.monotonic()
        known = self._routes.get(node_id)
        if known is not None and now - known.looked_at < KNOWN_FOR_S:
            return known
        before = self._switched.get(node_id, 0)
        async with self._view() as view:
            node = await view.node(node_id)
            deployment = await view.deployment(node.deployment) if node is not None else None
            if node is None or deployment is None or node.role is not Role.SERVICE:
                raise NotFound(f"there is no service {node_id}")
            active, reason = await _active(view, node.active_run)
        found = Route(
            node.id, deployment.id, deployment.issuer, deployment.sub, deployment.group,
            active.id if active else None, reason, now,
        )  # fmt: skip
        if self._switched.get(node_id, 0) != before:
            return await self.route(node_id)
        self._routes[node_id] = found
        return found

    @asynccontextmanager
    async def lane(self, attempt_id: str) -> AsyncIterator[aiohttp.ClientSession]:
        """Give the connections to an attempt; the request counts as under way meanwhile.

        Raises:
            RateLimited: too many are. Unavailable: the site cannot be reached.
        """
        lane = await self._lane(attempt_id)
        if lane.under_way >= self._most:
            raise RateLimited("too many requests to this service at once", retry_after_s=AGAIN_S)
        lane.under_way += 1
        try:
            yield lane.session
        finally:
            lane.under_way -= 1

    async def ready(self, attempt: str) -> bool:
        """Say whether the service of this attempt answers on its readiness path, or port."""
        try:
            lane = await self._lane(attempt)
        except TwinfraError:
            return False
        if lane.readiness_path is None:
            return await _is_open(lane.tunnel.path)
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            url = "http://localhost" + lane.readiness_path
            async with lane.session.get(url, timeout=timeout, allow_redirects=False) as answer:
                return answer.status < 400
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def in_flight(self, attempt: str) -> int:
        """Return how many requests this process has under way there."""
        lane = self._lanes.get(attempt)
        return lane.under_way if lane else 0

    def switch(self, node_id: str) -> None:
        """Forget where requests of this service go, also for a look-up that is under way."""
        self._routes.pop(node_id, None)
        self._switched[node_id] = self._switched.get(node_id, 0) + 1

    async def drop(self, attempt: str) -> None:
        """Close all connections to this attempt."""
        lane = self._lanes.pop(attempt, None)
        self._opening.pop(attempt, None)
        if lane is not None:
            await lane.session.close()
            await lane.tunnel.close()

    async def close(self) -> None:
        """Close all connections."""
        for attempt in list(self._lanes):
            await self.drop(attempt)

    async def _lane(self, attempt_id: str) -> _Lane:
        if (lane := self._lanes.get(attempt_id)) is not None:
            return lane
        async with self._opening.setdefault(attempt_id, asyncio.Lock()):
            if (lane := self._lanes.get(attempt_id)) is not None:
                return lane
            place = await self._place(attempt_id)
            tunnel = await self._driver.connect(place.target, place.handle, place.port)
            connector = aiohttp.UnixConnector(
                str(tunnel.path), limit=self._most, keepalive_timeout=KEPT_IDLE_S
            )
            session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
            lane = _Lane(tunnel, session, place.readiness_path)
            self._lanes[attempt_id] = lane
            return lane

    async def _place(self, attempt_id: str) -> _Place:
        async with self._view() as view:
            attempt = await view.attempt(attempt_id)
            run = await view.run(attempt.run) if attempt else None
            deployment = await view.deployment(attempt.deployment) if attempt else None
        if attempt is None or run is None or deployment is None or run.intent is None:
            raise Unavailable("the service is gone", retry_after_s=AGAIN_S)
        intent = Intent.from_json(run.intent)
        port = intent.port_of(attempt.id)
        if port is None or attempt.ended_at is not None:
            raise Unavailable("the service does not serve now", retry_after_s=AGAIN_S)
        handle = Handle.of(attempt.id, attempt.node, deployment.group)
        return _Place(attempt.target, handle, port, intent.readiness_path)

    @asynccontextmanager
    async def _view(self) -> AsyncIterator[View]:
        if self._store is None:
            raise Unavailable("the service has not begun", retry_after_s=AGAIN_S)
        async with self._store.view() as view:
            yield view


async def _active(view: View, run_id: str | None) -> tuple[Attempt | None, str]:
    """Return the attempt that serves, or none and why."""
    run = await view.run(run_id) if run_id else None
    if run is None:
        return None, "the service is being started"
    if run.state not in {RunState.SERVING, RunState.DRAINING}:
        return None, f"the service is {run.state}: {run.reason}".removesuffix(": ")
    attempts = await view.attempts(run=run.id)
    found = next((each for each in attempts if each.state is AttemptState.OPEN), None)
    return found, "" if found else "the service is being started again"


async def _is_open(path: Path) -> bool:
    """Say whether somebody listens behind a tunnel: one that cannot be made is closed at once."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    try:
        async with asyncio.timeout(SILENCE_S):
            return bool(await reader.read(1))
    except TimeoutError:
        return True
    except OSError:
        return False
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()
