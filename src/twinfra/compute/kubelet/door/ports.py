"""What the door needs from others."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import aiohttp

from twinfra.compute.interlink.client import LogRequest
from twinfra.compute.kubelet.kube.model import UserInfo


@dataclass(frozen=True)
class DoorContainer:
    """A container of a pod.

    Attributes:
        name: of it.
        init: it runs before the others.
        state: ``waiting``, ``running``, ``terminated``; empty: its status is not known yet.
        reason: why it waits.
        ran_before: it has a run before the present one.
        started_at: of the present run.
    """

    name: str
    init: bool = False
    state: str = ""
    reason: str = ""
    ran_before: bool = False
    started_at: datetime | None = None


@dataclass(frozen=True)
class DoorPod:
    """A pod of the node."""

    namespace: str
    name: str
    uid: str
    phase: str = "Pending"
    containers: tuple[DoorContainer, ...] = ()
    started_at: datetime | None = None

    def container(self, name: str) -> DoorContainer | None:
        """Return a container by its name; without a name the first that is no init container."""
        mains = [entry for entry in self.containers if not entry.init]
        if not name:
            return mains[0] if mains else None
        return next((entry for entry in self.containers if entry.name == name), None)


class PodDoor(Protocol):
    """The pods of one node."""

    async def find(self, namespace: str, name: str) -> DoorPod | None:
        """Return a pod of this node; None where there is none."""
        ...

    async def running(self) -> Sequence[DoorPod]:
        """Return the pods that run."""
        ...

    def objects(self, *, running: bool) -> AsyncIterator[bytes]:
        """Yield pods of this node whole, each as its JSON; all, or those that run."""
        ...


class DoorSite(Protocol):
    """The node's site; `InterlinkClient` is one and says what each call does."""

    def follow_logs(self, request: LogRequest) -> AsyncIterator[bytes]:
        """Yield log bytes as they come."""
        ...

    async def stats(self, uid: str) -> dict[str, Any]:
        """Return the real figures of a pod."""
        ...

    async def exec(
        self,
        uid: str,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> aiohttp.ClientWebSocketResponse:
        """Run a command; messages of ``v5.channel.k8s.io``."""
        ...

    async def attach(
        self, uid: str, container: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> aiohttp.ClientWebSocketResponse:
        """Join a container's process; messages of ``v5.channel.k8s.io``."""
        ...

    async def tunnel(self, uid: str, port: int) -> aiohttp.ClientWebSocketResponse:
        """Connect to a port; an empty message ends a direction."""
        ...


class Reviews(Protocol):
    """The cluster's judgement; `KubeClient` is one."""

    async def token_review(self, token: str, audiences: Sequence[str] = ()) -> UserInfo | None:
        """Return whom a token proves to call."""
        ...

    async def access_review(self, user: UserInfo, attributes: Mapping[str, Any]) -> bool:
        """Say whether somebody may do something."""
        ...
