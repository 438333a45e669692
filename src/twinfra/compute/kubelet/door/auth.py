"""Who calls, and may they: a client certificate or a token, then the cluster's permissions.

Source: Kubernetes documentation, "Kubelet authentication/authorization" (the table of paths and
``nodes`` sub-resources, the finer ones of 1.33 among them).
"""

import hashlib
import ssl
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from aiohttp import web

from twinfra.compute.kubelet.door.errors import Refused
from twinfra.compute.kubelet.door.ports import Reviews
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.kube.model import UserInfo
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")
AUTHENTICATED = "system:authenticated"
VERBS: Mapping[str, str] = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
FINE: Mapping[str, str] = {"pods": "pods", "runningpods": "pods", "healthz": "healthz"}
COARSE: Mapping[str, str] = {"stats": "stats", "metrics": "metrics", "logs": "log"}


def subresources(path: str) -> tuple[str, ...]:
    """Return the sub-resources of ``nodes`` of which one must be allowed for a path."""
    first = path.lstrip("/").split("/", 1)[0]
    if first in COARSE:
        return (COARSE[first],)
    return (FINE[first], "proxy") if first in FINE else ("proxy",)


class Memory(Generic[T]):
    """Answers that hold for a while; at most so many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def get(self, key: str) -> T | None:
        """Return an answer that still holds."""
        found = self._kept.get(key)
        if found is None or found[0] < time.monotonic():
            return None
        return found[1]

    def put(self, key: str, value: T, for_s: float) -> None:
        """Keep an answer."""
        self._kept[key] = (time.monotonic() + for_s, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)


class Guard:
    """Lets requests through.

    Args:
        reviews: the cluster's judgement.
        node: name of the node.
        settings: how long answers hold.
    """

    def __init__(self, reviews: Reviews, node: str, settings: DoorSettings) -> None:
        self._reviews, self._node, self._settings = reviews, node, settings
        self._tokens: Memory[UserInfo] = Memory(settings.reviews_kept)
        self._allowed: Memory[bool] = Memory(settings.reviews_kept)

    async def admit(self, request: web.Request) -> UserInfo:
        """Return who calls, if they may.

        Raises:
            Refused: 401 nobody is proved, 403 they may not, 500 the cluster gives no answer.
        """
        user = await self._who(request)
        if user is None:
            raise Refused(401, "Unauthorized")
        verb, wanted = VERBS.get(request.method, ""), subresources(request.path)
        for subresource in wanted:
            try:
                allowed = await self._may(user, verb, subresource)
            except TwinfraError as error:
                log.warning("access_not_reviewed", user=user.username, why=error.detail)
                raise Refused(
                    500,
                    f"Authorization error (user={user.username}, verb={verb}, "
                    f"resource=nodes, subresource={subresource})",
                ) from error
            if allowed:
                return user
        log.info("kubelet_caller_denied", user=user.username, path=request.path)
        raise Refused(
            403,
            f"Forbidden (user={user.username}, verb={verb}, resource=nodes, "
            f"subresource(s)=[{' '.join(wanted)}])\n",
        )

    async def _who(self, request: web.Request) -> UserInfo | None:
        transport = request.transport
        secure = transport.get_extra_info("ssl_object") if transport is not None else None
        if isinstance(secure, ssl.SSLObject) and (user := of_certificate(secure.getpeercert())):
            return user
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            return None
        return await self._of_token(token.strip())

    async def _of_token(self, token: str) -> UserInfo | None:
        key = hashlib.sha256(token.encode()).hexdigest()
        if (known := self._tokens.get(key)) is not None:
            return known
        try:
            user = await self._reviews.token_review(token)
        except TwinfraError as error:
            log.warning("token_not_reviewed", why=error.detail)
            return None
        if user is not None:
            self._tokens.put(key, user, self._settings.token_for_s)
        return user

    async def _may(self, user: UserInfo, verb: str, subresource: str) -> bool:
        groups = " ".join(sorted(user.groups or []))
        extra = repr(sorted((user.extra or {}).items()))
        key = repr((user.username, user.uid, groups, extra, verb, subresource))
        if (known := self._allowed.get(key)) is not None:
            return known
        attributes: dict[str, Any] = {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node,
        }
        allowed = await self._reviews.access_review(user, attributes)
        settings = self._settings
        self._allowed.put(
            key, allowed, settings.allowed_for_s if allowed else settings.denied_for_s
        )
        return allowed


def of_certificate(certificate: Any) -> UserInfo | None:
    """Return whom a verified certificate names: its common name, its organisations as groups.

    Source: Kubernetes documentation, "Authenticating", X.509 client certificates.
    """
    if not certificate:
        return None
    pairs = [pair for names in certificate.get("subject", ()) for pair in names]
    common = [value for key, value in pairs if key == "commonName"]
    groups = [value for key, value in pairs if key == "organizationName"]
    if not common:
        return None
    return UserInfo(username=common[-1], groups=[*groups, AUTHENTICATED])
