"""Inputs of pods: files at the site's own storage, hard-linked into the pod's folder.

A link costs no bytes and keeps the content that was linked, whatever happens to the name later.
Where the storage is on another file system the file is copied. Only what the datasets service
calls available here is linked, and only if it has the size that it should have. What is elsewhere
is asked for by a rule, in the name of the pod's owner, unless one brings it already.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from twinfra.access.scopes import DATA_SCOPES
from twinfra.compute.interlink.data.doors import DAV, NO_PERMISSION, DataDoors
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.compute.interlink.plugin.ports import Staged
from twinfra.compute.interlink.pods.places import Places
from twinfra.compute.interlink.pods.request import DataMount, PodRequest
from twinfra.core.errors import Conflict, shorten
from twinfra.core.telemetry import get_logger
from twinfra.data.datasets.client import (
    DatasetsClient,
    Did,
    NewRule,
    ReplicaInfo,
    RuleInfo,
    RuleState,
)

log = get_logger(__name__)

HALTED = frozenset({RuleState.STUCK, RuleState.SUSPENDED})


@dataclass(frozen=True)
class _Link:
    source: Path
    target: Path
    size_bytes: int | None


class InputStager:
    """Brings inputs into pods' folders.

    Args:
        doors: of the site.
        datasets: asks as the plug-in.
        lifetime_s: of the rules that bring what is missing.
    """

    def __init__(self, doors: DataDoors, datasets: DatasetsClient, *, lifetime_s: float) -> None:
        self._doors, self._datasets, self._lifetime_s = doors, datasets, lifetime_s

    async def stage(self, request: PodRequest, places: Places, resolved: dict[str, str]) -> Staged:
        """Link what is at this site into the pod's folder; see `Inputs`."""
        here = missing = new = 0
        lacking = []
        for mount in request.inputs:
            if mount.did not in resolved:
                found = await self._datasets.resolve(Did(mount.scope, mount.name))
                resolved[mount.did] = str(found)
            did = Did.parse(resolved[mount.did])
            replicas = await self._datasets.list_replicas([did], self._doors.rse)
            links = [
                link for replica in replicas if (link := self._link(did, replica, mount, places))
            ]
            made, unmade = await asyncio.to_thread(link_all, links)
            here += len(links) - unmade
            missing += len(replicas) - len(links) + unmade
            new += made
            if any(replica.at(self._doors.rse) is None for replica in replicas):
                lacking.append(str(did))
        return Staged(here=here, missing=missing, new=new, lacking=tuple(lacking))

    async def bring(self, pod: KeptPod, lacking: Sequence[str]) -> str:
        """Ask for rules on what no rule brings here; see `Inputs`."""
        if pod.delegation == NO_PERMISSION:
            return "the owner's token could not be kept, so nothing is brought in their name"
        return "; ".join([_told(await self._rule(pod, Did.parse(did))) for did in lacking])

    async def _rule(self, pod: KeptPod, did: Did) -> RuleInfo:
        """Return the rule that brings `did` here, made now where there is none."""
        known = await self._known_rule(did)
        if known is not None and known.state not in HALTED:
            return known
        meta = {"deployment": pod.deployment, "group": pod.owner.group, "pod": pod.uid}
        wanted = NewRule(
            did,
            copies=1,
            rse_expression=self._doors.rse,
            lifetime_s=self._lifetime_s,
            meta={key: value for key, value in meta.items() if value},
        )
        token = await self._doors.datasets_token(pod, DATA_SCOPES)
        try:
            rule_id = await self._datasets.add_rule(wanted, token=token)
        except Conflict:  # the owner has one, halted or made by another pod just now
            if (known := await self._known_rule(did)) is None:
                raise
            return known
        log.info("input_rule_made", uid=pod.uid, dataset=str(did), rule_id=rule_id)
        return await self._datasets.get_rule(rule_id)

    async def _known_rule(self, did: Did) -> RuleInfo | None:
        """Return a rule of anybody's that brings `did` to this site, the best one."""
        found = [
            rule
            for rule in await self._datasets.did_rules(did)
            if rule.rse_expression == self._doors.rse
        ]
        return min(found, key=lambda rule: rule.state in HALTED, default=None)

    def _link(
        self, did: Did, replica: ReplicaInfo, mount: DataMount, places: Places
    ) -> _Link | None:
        pfn = replica.at(self._doors.rse)
        source = None if pfn is None else local_path(pfn, self._doors.storage)
        if source is None:
            return None
        name = file_name(did, replica.did)
        return _Link(source, places.input(mount) / name, replica.size_bytes)


def _told(rule: RuleInfo) -> str:
    """Say how a rule stands, in a few words."""
    if rule.state in HALTED:
        return f"rule {rule.id} on {rule.did} is {rule.state}: {shorten(rule.error or '')}"
    return f"rule {rule.id} brings {rule.did}"


def local_path(pfn: str, storage: Path) -> Path | None:
    """Return the file that the edge serves as `pfn`; none where it is not below ``/dav``."""
    path = PurePosixPath(unquote(urlsplit(pfn).path))
    if not path.is_relative_to(DAV) or ".." in path.parts:
        return None
    found = storage / path.relative_to(DAV)
    return found if found.resolve().is_relative_to(storage.resolve()) else None


def file_name(did: Did, file: Did) -> str:
    """Return what a file is called below its dataset's mount: without the dataset's own name."""
    return file.checked().name.removeprefix(f"{did.name}/")


def link_all(links: Sequence[_Link]) -> tuple[int, int]:
    """Make links; return how many are new and how many could not be made."""
    made = unmade = 0
    for link in links:
        try:
            made += _link_one(link)
        except OSError as error:
            log.warning("input_not_linked", source=str(link.source), error=repr(error))
            unmade += 1
    return made, unmade


def _link_one(link: _Link) -> bool:
    """Make one link by rename; false where the very same file is there already."""
    known = link.source.stat()
    if link.size_bytes is not None and known.st_size != link.size_bytes:
        raise OSError(f"{known.st_size} bytes, {link.size_bytes} are registered")
    if link.target.exists():
        there = link.target.stat()
        same = (there.st_dev, there.st_ino) == (known.st_dev, known.st_ino)
        if same or there.st_size == known.st_size:
            return False
    link.target.parent.mkdir(parents=True, exist_ok=True)
    draft = link.target.with_name(f".{link.target.name}.linking")
    draft.unlink(missing_ok=True)
    try:
        os.link(link.source, draft)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(link.source, draft)
    draft.replace(link.target)
    return True
