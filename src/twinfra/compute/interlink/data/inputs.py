"""Inputs of pods: files at the site's own storage, hard-linked into the pod's folder.

A link costs no bytes and keeps the content that was linked, whatever happens to the name later.
Where the storage is on another file system the file is copied. Only what the datasets service
calls available here is linked, and only if it has the size that it should have.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from twinfra.compute.interlink.data.doors import DAV, DataDoors
from twinfra.compute.interlink.plugin.ports import Staged
from twinfra.compute.interlink.pods.places import Places
from twinfra.compute.interlink.pods.request import DataMount, PodRequest
from twinfra.core.telemetry import get_logger
from twinfra.data.datasets.client import DatasetsClient, Did, ReplicaInfo

log = get_logger(__name__)


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
    """

    def __init__(self, doors: DataDoors, datasets: DatasetsClient) -> None:
        self._doors, self._datasets = doors, datasets

    async def stage(self, request: PodRequest, places: Places, resolved: dict[str, str]) -> Staged:
        """Link what is at this site into the pod's folder; see `Inputs`."""
        here = missing = new = 0
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
        return Staged(here=here, missing=missing, new=new)

    def _link(
        self, did: Did, replica: ReplicaInfo, mount: DataMount, places: Places
    ) -> _Link | None:
        pfn = replica.at(self._doors.rse)
        source = None if pfn is None else local_path(pfn, self._doors.storage)
        if source is None:
            return None
        name = file_name(did, replica.did)
        return _Link(source, places.input(mount) / name, replica.size_bytes)


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
