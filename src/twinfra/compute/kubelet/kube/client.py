"""The calls to an API server: get, list by pages, watch, create, patch, delete, tokens, reviews.

Answers are decoded into the struct that the caller names. Nothing is retried here; a watch ends
where the server or the network ends it: ``reflector`` goes on from there.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from twinfra.compute.kubelet.kube.config import Access, access_of
from twinfra.compute.kubelet.kube.model import (
    BoundToken,
    Listing,
    Patch,
    UserInfo,
    WatchEvent,
)
from twinfra.compute.kubelet.kube.resources import (
    ACCESS_REVIEWS,
    SERVICE_ACCOUNTS,
    TOKEN_REVIEWS,
    Resource,
)
from twinfra.compute.kubelet.kube.transport import Transport, decode, event_of, lines

T = TypeVar("T")

PAGE = 500
WATCH_S = 240
SILENCE_S = 100.0
"""A watch sends a bookmark about every minute: one silent for longer hangs, and is asked anew."""


class _TokenAnswer(msgspec.Struct):
    status: BoundToken


class _Reviewed(msgspec.Struct):
    authenticated: bool = False
    user: UserInfo | None = None
    audiences: list[str] | None = None
    error: str = ""


class _TokenReview(msgspec.Struct):
    status: _Reviewed


class _Allowed(msgspec.Struct):
    allowed: bool = False


class _AccessReview(msgspec.Struct):
    status: _Allowed


class KubeClient:
    """Speaks to one API server as one user.

    Args:
        access: the server and the credential; `from_kubeconfig` reads a file.
        timeout_s: for a whole answer; a watch has `SILENCE_S` between two events.
    """

    def __init__(self, access: Access, *, timeout_s: float = 30.0) -> None:
        self._http = Transport(access, timeout_s=timeout_s)

    @classmethod
    def from_kubeconfig(cls, kubeconfig: Path | None = None) -> "KubeClient":
        """Return a client on a kubeconfig; without one, on the cluster that this pod is in."""
        return cls(access_of(kubeconfig))

    @property
    def url(self) -> str:
        """The API server's address."""
        return self._http.access.url

    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, kind: type[T], sub: str = ""
    ) -> T:
        """Return an object.

        Raises:
            NotFound: there is none.
            TwinfraError: the leaf that fits the server's refusal, here and in all calls.
        """
        path = resource.path(name, namespace, sub)
        return decode(await self._http.call("GET", path), kind)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        kind: type[T],
        fields: str = "",
        labels: str = "",
    ) -> Listing[T]:
        """Return all objects that the selectors choose, read page by page."""
        items: list[T] = []
        version = ""
        async for page in self.pages(resource, namespace, kind=kind, fields=fields, labels=labels):
            items += page.items or []
            version = page.metadata.resource_version
        found: Listing[T] = Listing(metadata=page.metadata, items=items)
        found.metadata.resource_version = version
        return found

    async def pages(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        kind: type[T],
        fields: str = "",
        labels: str = "",
    ) -> AsyncIterator[Listing[T]]:
        """Yield the objects that the selectors choose, at most `PAGE` at once.

        Raises:
            Gone: reading took so long that the server has forgotten the list: begin again.
        """
        more = ""
        while True:
            params = {
                "limit": str(PAGE),
                "fieldSelector": fields,
                "labelSelector": labels,
                "continue": more,
            }
            body = await self._http.call("GET", resource.path(namespace=namespace), params=params)
            page: Listing[T] = decode(body, Listing[kind])  # type: ignore[valid-type] # at run time
            yield page
            more = page.metadata.continue_
            if not more:
                return

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        kind: type[T],
        version: str,
        fields: str = "",
        labels: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """Yield changes after `version`, bookmarks among them, until the stream ends.

        A line that the end has cut is dropped: the next watch, from the last version seen, has it.

        Raises:
            Gone: `version` is no longer kept: list again.
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "fieldSelector": fields,
            "labelSelector": labels,
        }
        path = resource.path(namespace=namespace)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
        async with self._http.open("GET", path, params=params, timeout=timeout) as answer:
            async for line in lines(answer.content):
                yield event_of(line, kind)

    async def create(
        self,
        resource: Resource,
        body: Any,
        namespace: str = "",
        *,
        kind: type[T],
        name: str = "",
        sub: str = "",
    ) -> T:
        """Create an object, or post to a subresource of `name` (``token``, ``binding``, …).

        Raises:
            AlreadyExists: there is one of this name.
            Invalid: it breaks a rule, or an admission policy refuses it.
        """
        path = resource.path(name, namespace, sub)
        return decode(await self._http.call("POST", path, body=body), kind)

    async def replace(
        self, resource: Resource, name: str, body: Any, namespace: str = "", *, kind: type[T]
    ) -> T:
        """Replace an object whole; with its ``resourceVersion`` only if nobody changed it.

        Raises:
            Conflict: somebody has.
        """
        path = resource.path(name, namespace)
        return decode(await self._http.call("PUT", path, body=body), kind)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        namespace: str = "",
        *,
        kind: type[T],
        how: Patch = Patch.STRATEGIC,
        sub: str = "",
    ) -> T:
        """Change an object; ``metadata.uid`` in `body` makes sure that it is still the same one.

        Raises:
            NotFound: there is none.
            Conflict: it is another one of the same name.
        """
        path = resource.path(name, namespace, sub)
        headers = {"Content-Type": how.value}
        return decode(await self._http.call("PATCH", path, body=body, headers=headers), kind)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_s: int | None = None,
        uid: str = "",
    ) -> None:
        """Delete an object; one that is gone is fine.

        Args:
            resource: its kind.
            name: of it.
            namespace: of it.
            grace_s: instead of the object's own; 0 removes it at once.
            uid: delete only the object with this UID.

        Raises:
            Conflict: there is another one of the same name.
        """
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        if uid:
            body["preconditions"] = {"uid": uid}
        path = resource.path(name, namespace)
        await self._http.call("DELETE", path, body=body, fine=(404,))

    async def token_request(
        self,
        namespace: str,
        account: str,
        *,
        audiences: Sequence[str] = (),
        expires_s: int = 3600,
        pod: tuple[str, str] | None = None,
    ) -> BoundToken:
        """Return a token of a ServiceAccount.

        Args:
            namespace: of the account.
            account: its name.
            audiences: whom the token is for; none: the API server.
            expires_s: wanted life [s]; the server may shorten or stretch it.
            pod: name and UID of the pod that it is bound to: it ends with the pod.
        """
        spec: dict[str, Any] = {"audiences": list(audiences), "expirationSeconds": expires_s}
        if pod is not None:
            name, uid = pod
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": spec,
        }
        made = await self.create(
            SERVICE_ACCOUNTS, body, namespace, kind=_TokenAnswer, name=account, sub="token"
        )
        return made.status

    async def token_review(self, token: str, audiences: Sequence[str] = ()) -> UserInfo | None:
        """Return whom `token` proves to call; None where it proves nobody."""
        spec: dict[str, Any] = {"token": token}
        if audiences:
            spec["audiences"] = list(audiences)
        body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": "TokenReview", "spec": spec}
        reviewed = (await self.create(TOKEN_REVIEWS, body, kind=_TokenReview)).status
        return reviewed.user if reviewed.authenticated else None

    async def access_review(self, user: UserInfo, attributes: Mapping[str, Any]) -> bool:
        """Say whether `user` may do something.

        Args:
            user: who.
            attributes: a ``ResourceAttributes``: verb, group, resource, subresource, name, ….
        """
        spec = {**user.to_subject(), "resourceAttributes": dict(attributes)}
        body = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        return (await self.create(ACCESS_REVIEWS, body, kind=_AccessReview)).status.allowed

    async def raw(self, path: str) -> bytes:
        """Return what stands under a path, such as ``/version``."""
        return await self._http.call("GET", path)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()
