"""Gives a cluster the policies and rights, or takes them back; doing it again changes nothing."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Thing
from twinfra.compute.kubelet.kube.resources import Resource
from twinfra.compute.kubelet.placement.names import CREATOR, TAINT
from twinfra.compute.kubelet.placement.policies import (
    GROUP,
    MUTATING,
    SHAPES,
    VALIDATING,
    policies,
)
from twinfra.compute.kubelet.placement.rights import Wanted, rights
from twinfra.core.errors import Conflict, NotFound, TwinfraError

NAMED_AT_MOST = 10
TRIES = 5


class TooOld(TwinfraError):
    """The cluster has no MutatingAdmissionPolicy v1."""

    code, title, status, retryable = "cluster-too-old", "The cluster is too old", 422, False


class Deed(StrEnum):
    """What became of an object."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    KEPT = "kept"


@dataclass(frozen=True)
class Done:
    """One object and what became of it, or what would."""

    kind: str
    name: str
    deed: Deed


class _Served(msgspec.Struct):
    resources: list[dict[str, Any]]


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = ""


class _Stored(msgspec.Struct):
    metadata: dict[str, Any]
    spec: Any = None
    rules: Any = None
    subjects: Any = None


class _Templated(msgspec.Struct):
    metadata: dict[str, Any]
    spec: dict[str, Any] = msgspec.field(default_factory=dict)


class Installer:
    """Installs for one cluster.

    Args:
        client: on its API server, as somebody who may change admission and roles.
        issuers: only their people are stamped; none: all that the API server trusts.
        controllers: further users whose copies of a stamp are taken.
    """

    def __init__(
        self, client: KubeClient, *, issuers: Sequence[str] = (), controllers: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._wanted = [*rights(), *policies(issuers, controllers)]

    async def version(self) -> str:
        """Return the cluster's version.

        Raises:
            TooOld: it has no MutatingAdmissionPolicy v1; the text says what to do by hand.
        """
        found = msgspec.json.decode(await self._client.raw("/version"), type=_Version)
        served = await self._client.raw(f"/apis/{GROUP}/v1")
        names = {each["name"] for each in msgspec.json.decode(served, type=_Served).resources}
        if not {MUTATING.plural, VALIDATING.plural} <= names:
            raise TooOld(by_hand(found.git_version))
        return found.git_version

    async def install(self, *, dry_run: bool = False) -> list[Done]:
        """Create what is missing and change what differs.

        Args:
            dry_run: only say what would be done.

        Raises:
            TooOld: as `version` does.
            Conflict: objects have a stamp though nothing has guarded it yet; they are named.
        """
        await self.version()
        if not await self._guarded():
            await self._audit()
        # guards first: from the first stamp on nobody else may write one
        order = sorted(self._wanted, key=lambda each: each.resource.plural.startswith("mutating"))
        return [await self._put(each, dry_run=dry_run) for each in order]

    async def uninstall(self, *, dry_run: bool = False) -> list[Done]:
        """Delete all but what others may use; pods that wait at the gate stay there, held."""
        done = []
        for each in reversed(self._wanted):
            deed = Deed.KEPT if each.shared else Deed.DELETED
            if deed is Deed.DELETED and not dry_run:
                await self._client.delete(each.resource, each.name, each.namespace)
            done.append(Done(each.resource.kind, each.name, deed))
        return done

    async def _put(self, wanted: Wanted, *, dry_run: bool) -> Done:
        """Create or change one object; the cluster's own controllers may write it meanwhile."""
        for _ in range(TRIES - 1):
            with suppress(Conflict):
                return await self._put_once(wanted, dry_run=dry_run)
        return await self._put_once(wanted, dry_run=dry_run)

    async def _put_once(self, wanted: Wanted, *, dry_run: bool) -> Done:
        resource = wanted.resource
        try:
            found = await self._client.get(resource, wanted.name, wanted.namespace, kind=_Stored)
        except NotFound:
            if not dry_run:
                await self._client.create(resource, wanted.body, wanted.namespace, kind=Thing)
            return Done(resource.kind, wanted.name, Deed.CREATED)
        if wanted.shared or _covers(msgspec.to_builtins(found), _compared(wanted.body)):
            return Done(resource.kind, wanted.name, Deed.UNCHANGED)
        if not dry_run:
            version = found.metadata["resourceVersion"]
            metadata = {**wanted.body["metadata"], "resourceVersion": version}
            body = {**wanted.body, "metadata": metadata}
            await self._client.replace(resource, wanted.name, body, wanted.namespace, kind=Thing)
        return Done(resource.kind, wanted.name, Deed.CHANGED)

    async def _guarded(self) -> bool:
        found = await self._client.list(VALIDATING, kind=Thing)
        names = {each.metadata.name for each in found.items or ()}
        return {f"twinfra-creator-{shape.name}" for shape in SHAPES} <= names

    async def _audit(self) -> None:
        """Look for stamps that nobody guarded when they were written."""
        forged: list[str] = []
        for shape in SHAPES:
            for group, plurals in shape.kinds.items():
                for plural in plurals:
                    resource = Resource(group, "v1", plural, plural)
                    async for page in self._client.pages(resource, kind=_Templated):
                        forged += [
                            f"{plural} {each.metadata['namespace']}/{each.metadata['name']}"
                            for each in page.items or ()
                            if CREATOR in _annotations(each, shape.template)
                        ]
        if forged:
            raise Conflict(
                f"{CREATOR} stands in objects that nothing has guarded, take it out first:"
                f" {', '.join(forged[:NAMED_AT_MOST])}"
            )


def by_hand(version: str) -> str:
    """Return what the author of a pod does where a cluster cannot."""
    return (
        f"{version or 'this cluster'} has no MutatingAdmissionPolicy v1 (Kubernetes 1.36 has)."
        " Nothing was changed. Pods reach virtual nodes all the same when their author adds to the"
        f' spec: tolerations: [{{key: "{TAINT}", operator: Exists, effect: NoSchedule}}]; such a'
        " pod is scheduled by Kubernetes alone and held after binding until its data is there."
    )


def _annotations(found: _Templated, template: str) -> dict[str, Any]:
    at: Any = {"metadata": found.metadata, "spec": found.spec}
    for step in template.split(".") if template else ():
        at = at.get(step) or {}
    return (at.get("metadata") or {}).get("annotations") or {}


def _compared(body: dict[str, Any]) -> dict[str, Any]:
    parts: dict[str, Any] = {key: body[key] for key in ("spec", "rules", "subjects") if key in body}
    return {**parts, "metadata": {"labels": body["metadata"]["labels"]}}


def _covers(found: Any, wanted: Any) -> bool:
    """Say whether `found` has all of `wanted`; a server adds defaults, but nothing to lists."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            _covers(found.get(key), value) if value not in ({}, None) else True
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(map(_covers, found, wanted))
        )
    return bool(found == wanted)
