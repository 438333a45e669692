"""Outputs of pods: stored through the site's edge, registered as a new version, once.

The version is reserved under the pod's UID, the files are put at its places, then the version is
published. Whatever breaks in between, the same steps again lead to the same version.
"""

import asyncio
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinfra.compute.interlink.data.doors import DATASETS, DAV, DataDoors
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.compute.interlink.pods.places import Places
from twinfra.compute.interlink.pods.request import DataMount, PodRequest
from twinfra.core.errors import InvalidRequest, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.data.datasets.client import DatasetsClient, Did, FileSpec
from twinfra.data.storage.client import FileMissing, WebDavStorage

log = get_logger(__name__)

BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class WrittenFile:
    """One file that a pod wrote: its name below the output, and what proves it whole."""

    name: str
    path: Path
    size_bytes: int
    adler32: str
    md5: str


class OutputPublisher:
    """Publishes outputs.

    Args:
        doors: of the site.
        datasets: speaks for the pod's owner, by the token of each call.
        site: named in the lineage.
        jobs: the folder of all pods' folders.
    """

    def __init__(
        self, doors: DataDoors, datasets: DatasetsClient, *, site: str, jobs: Path
    ) -> None:
        self._doors, self._datasets, self._site, self._jobs = doors, datasets, site, jobs

    async def publish(
        self, pod: KeptPod, request: PodRequest, meta: Mapping[str, Any]
    ) -> list[str]:
        """Store and register the outputs of a pod; see `Outputs`."""
        places = Places(self._jobs / pod.uid, pod.attempt)
        found = {
            mount: await asyncio.to_thread(written, places.output(mount), mount)
            for mount in request.outputs
        }
        return [await self._publish_one(pod, mount, files, meta) for mount, files in found.items()]

    async def release(self, pod: KeptPod) -> None:
        """Revoke the pod's delegation; see `Outputs`."""
        await self._doors.release(pod)

    async def _publish_one(
        self, pod: KeptPod, mount: DataMount, files: list[WrittenFile], meta: Mapping[str, Any]
    ) -> str:
        token = await self._doors.datasets_token(pod)
        container = Did(mount.scope, mount.name)
        version = await self._datasets.reserve_version(container, pod.uid, token=token)
        folder = f"{DATASETS}/{version.did.scope}/{version.did.name}"
        await self._store(pod, folder, files)
        specs = [
            FileSpec(
                Did(mount.scope, f"{version.did.name}/{file.name}"),
                file.size_bytes,
                adler32=file.adler32,
                md5=file.md5,
            )
            for file in files
        ]
        token = await self._doors.datasets_token(pod)
        lineage = {
            "job": pod.uid,
            "attempt": pod.attempt,
            "deployment": pod.deployment,
            "node": pod.node,
            "site": self._site,
            "image": (meta.get("images") or [""])[0],
            "inputs": list(meta.get("inputs", [])),
        }
        await self._datasets.publish_version(
            container, version, self._doors.rse, specs, lineage, token=token
        )
        log.info("output_published", uid=pod.uid, dataset=str(version.did), files=len(files))
        return str(version.did)

    async def _store(self, pod: KeptPod, folder: str, files: list[WrittenFile]) -> None:
        """Put the files to the edge; those that are there already are left alone."""

        async def token() -> str:
            return await self._doors.edge_token(pod, folder)

        storage = WebDavStorage(self._doors.edge_url + DAV, tls=self._doors.tls, token=token)
        try:
            for file in files:
                path = f"{folder}/{file.name}"
                if not await _is_there(storage, path, file):
                    await storage.write(
                        path,
                        _blocks(file.path),
                        size_bytes=file.size_bytes,
                        checksums={"adler32": file.adler32, "md5": file.md5},
                    )
        finally:
            await storage.close()


async def _is_there(storage: WebDavStorage, path: str, file: WrittenFile) -> bool:
    try:
        entry = await storage.stat(path)
        if entry.size_bytes != file.size_bytes:
            return False
        return await storage.checksum(path, "adler32") == file.adler32
    except (FileMissing, InvalidRequest):
        return False


def written(folder: Path, mount: DataMount) -> list[WrittenFile]:
    """Return the files below an output's folder, checksummed.

    Raises:
        InvalidRequest: there is none, or one that cannot be registered; the text names it.
    """
    found = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            if path.is_symlink() or not path.is_file():
                raise InvalidRequest(f"{mount.did}: {name} is no plain file")
            relative = str(path.relative_to(folder))
            try:
                Did(mount.scope, f"{mount.name}.v1/{relative}").checked()
            except TwinfraError as error:
                raise InvalidRequest(f"{mount.did}: {error.detail}") from error
            found.append(_digest(relative, path))
    if not found:
        raise InvalidRequest(f"{mount.did}: nothing was written to {mount.target}")
    return found


def _digest(name: str, path: Path) -> WrittenFile:
    adler, md5, size_bytes = 1, hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            adler = zlib.adler32(block, adler)
            md5.update(block)
            size_bytes += len(block)
    return WrittenFile(name, path, size_bytes, f"{adler:08x}", md5.hexdigest())


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    """Yield a file's bytes; the reading is done in threads."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
            yield block
    finally:
        await asyncio.to_thread(file.close)
