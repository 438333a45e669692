"""Storage edges for tests: real ones on free ports, with tokens of a test issuer.

Each has a folder and a database of its own; they know each other as peers. What a test sends them
it sends over the wire.
"""

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinfra.core.database import Database
from twinfra.core.tls import ServerTls, client_context
from twinfra.data.edge.authorization import ScopeAuthorizer
from twinfra.data.edge.edge import Edge, Place
from twinfra.data.edge.ports import Peer
from twinfra.data.edge.settings import EdgeSettings
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import free_port
from twinfra.testkit.waiting import wait_for

EVERYTHING = "storage.read:/ storage.modify:/"


@dataclass
class KnownPeers:
    """Peers that a test has named; `refused` are the others that were asked for."""

    sites: dict[tuple[str, int], str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    async def find(self, host: str, port: int) -> Peer | None:
        """Return the peer at `host` and `port`, or none."""
        site = self.sites.get((host, port))
        if site is None:
            self.refused.append(f"{host}:{port}")
            return None
        return Peer(host, port, site)


class EdgeUnderTest:
    """One edge, its folder and the tokens for it.

    Args:
        name: of its site.
        folder: for its files and database.
        issuer: of its tokens.
        peers: that it knows.
        tls: files of its door.
    """

    def __init__(
        self, name: str, folder: Path, issuer: TestIssuer, peers: KnownPeers, tls: ServerTls | None
    ) -> None:
        self.name, self.issuer = name, issuer
        self.folder = folder
        self.root = folder / "storage"
        self.root.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.tls = tls
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://localhost:{self.port}"
        self._peers = peers
        self._settings: dict[str, Any] = {}
        self.edge: Edge | None = None
        peers.sites["localhost", self.port] = name

    @property
    def dav(self) -> str:
        """URL of its files."""
        return f"{self.url}/dav"

    @property
    def running(self) -> Edge:
        """The edge itself."""
        assert self.edge is not None, "the edge is not open"
        return self.edge

    def token(self, scope: str = EVERYTHING, **more: Any) -> str:
        """Return a good token of alice for this edge."""
        return self.issuer.token(**{"aud": self.url, "scope": scope, **more})

    def client_tls(self) -> ssl.SSLContext | None:
        """Return a context that trusts this edge."""
        return client_context(self.tls.cafile) if self.tls else None

    async def open(self, **settings: Any) -> None:
        """Start it, or start it again; `settings` stay for later starts."""
        self._settings.update(settings)
        quick = {"fsync": "none", "shutdown_grace_s": 1.0, "peers_from_catalogue": False}
        client = self.client_tls()
        self.edge = Edge(
            Place(self.name, self.root, self.port, self.url),
            EdgeSettings(**{**quick, **self._settings}),
            Database(f"sqlite:///{self.folder}/edge.sqlite"),
            authorizer=ScopeAuthorizer(self.issuer.authenticator(self.url)),
            peers=self._peers,
            tls=(self.tls.context(), client) if self.tls and client else None,
        )
        await self.edge.open()
        await wait_for(lambda: self.running.ready, timeout_s=10, what="the edge's first look")

    async def shut(self) -> None:
        """Stop it in good order."""
        if self.edge is not None:
            await self.edge.shut()
            self.edge = None

    async def settle(self) -> None:
        """Wait until nothing that happened so far is still to be looked at."""
        await wait_for(
            lambda: self.running.watching_is_idle, timeout_s=20, what="the inventory to settle"
        )

    async def changes(self) -> list[tuple[str, str]]:
        """Return all changes of files so far: what and where, in order."""
        rows = await self.running.inventory.events(0, 1_000_000)
        return [(row["change"], row["path"]) for row in rows if not row["directory"]]


@asynccontextmanager
async def edges(
    names: Iterable[str],
    folder: Path,
    issuer: TestIssuer,
    *,
    tls: ServerTls | None,
    peers: KnownPeers | None = None,
    **settings: Any,
) -> AsyncIterator[list[EdgeUnderTest]]:
    """Run edges that know each other, until the block ends."""
    known = peers or KnownPeers()
    made = [EdgeUnderTest(name, folder / name, issuer, known, tls) for name in names]
    try:
        for edge in made:
            await edge.open(**settings)
        yield made
    finally:
        for edge in made:
            with suppress(RuntimeError):
                await edge.shut()
