"""An OCI image layout: a folder of blobs named by digest and an index of named manifests.

Written so that every state on disk is a valid layout (blobs first, by rename; index last, under a
lock). It must not know what a layer holds. Source: OCI image-spec, image-layout.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from twinfra.compute.containers.images.model import MEDIA_INDEX, REF_NAME
from twinfra.core.errors import NotFound, SiteRejected

_CHUNK_BYTES = 1024 * 1024
_JSON_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Descriptor:
    """What names a blob (OCI descriptor)."""

    media_type: str
    digest: str
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the descriptor in the specification's spelling."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


def descriptor_of(data: dict[str, Any]) -> Descriptor:
    """Read a descriptor.

    Raises:
        SiteRejected: it is malformed.
    """
    try:
        found = Descriptor(str(data["mediaType"]), str(data["digest"]), int(data["size"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SiteRejected("the image has a malformed descriptor") from error
    algorithm, _, value = found.digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise SiteRejected("the image has a digest that is not sha256")
    return found


class Layout:
    """One layout; several processes may write it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether the folder is a layout."""
        return (self.path / "oci-layout").is_file()

    def create(self) -> None:
        """Make the folder a layout, unless it is."""
        (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not self.exists:
            self._write("oci-layout", {"imageLayoutVersion": "1.0.0"})

    def blob(self, digest: str) -> Path:
        """Return where a blob is kept."""
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def put(self, media_type: str, data: bytes) -> Descriptor:
        """Add a small blob."""
        found = Descriptor(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        target = self.blob(found.digest)
        if not target.is_file():
            beside = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
            beside.write_bytes(data)
            beside.replace(target)
        return found

    def adopt(self, media_type: str, file: Path, digest: str) -> Descriptor:
        """Move a finished file of the same file system in as a blob; the caller vouches for it."""
        found = Descriptor(media_type, digest, file.stat().st_size)
        file.replace(self.blob(digest))
        return found

    def name(self, reference: str, manifest: Descriptor, architecture: str) -> None:
        """Let the reference mean the manifest from now on."""
        entry = manifest.as_json()
        entry["platform"] = {"os": "linux", "architecture": architecture}
        entry["annotations"] = {REF_NAME: reference}
        with FileLock(self.path / ".lock"):
            entries = [item for item in self._index() if _ref_name(item) != reference]
            entries = sorted([*entries, entry], key=_ref_name)
            self._write(
                "index.json", {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": entries}
            )

    def manifests(self) -> Iterator[tuple[str, Descriptor]]:
        """Yield each named entry of the index: name (may be empty) and descriptor."""
        for item in self._index():
            yield _ref_name(item), descriptor_of(item)

    def read_json(self, found: Descriptor) -> dict[str, Any]:
        """Read a verified JSON blob.

        Raises:
            NotFound: the blob is missing.
            SiteRejected: it is not what its digest says, or not a JSON object.
        """
        if found.size_bytes > _JSON_BYTES:
            raise SiteRejected("the image has an oversized manifest")
        self.verify(found)
        try:
            data = json.loads(self.blob(found.digest).read_bytes())
        except ValueError as error:
            raise SiteRejected("the image has a manifest that is not JSON") from error
        if not isinstance(data, dict):
            raise SiteRejected("the image has a manifest that is not an object")
        return data

    def verify(self, found: Descriptor) -> None:
        """Check size and digest of a blob.

        Raises:
            NotFound: the blob is missing.
            SiteRejected: it is not what its digest says.
        """
        digest, size_bytes = hashlib.sha256(), 0
        try:
            with self.blob(found.digest).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size_bytes += len(chunk)
        except FileNotFoundError as error:
            raise NotFound(f"the layout lacks blob {found.digest}") from error
        if size_bytes != found.size_bytes or f"sha256:{digest.hexdigest()}" != found.digest:
            raise SiteRejected(f"blob {found.digest} of the image is corrupted")

    def _index(self) -> list[dict[str, Any]]:
        try:
            data = json.loads((self.path / "index.json").read_bytes())
            return [item for item in data["manifests"] if isinstance(item, dict)]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise SiteRejected(f"{self.path.name}/index.json is not an OCI index") from error

    def _write(self, name: str, data: dict[str, Any]) -> None:
        beside = self.path / f".{name}.{os.getpid()}"
        beside.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(self.path / name)


def _ref_name(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations")
    return str(annotations.get(REF_NAME, "")) if isinstance(annotations, dict) else ""
