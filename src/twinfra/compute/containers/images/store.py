"""Images of a site: finds a reference in OCI layouts, verifies it and unpacks it once.

It must not fetch from a registry. Its neighbour `layout.py` reads the layouts.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from twinfra.compute.containers.images.layout import Descriptor, Layout, descriptor_of
from twinfra.compute.containers.images.model import (
    MEDIA_INDEX,
    ImageConfig,
    UnpackedImage,
    parse_reference,
)
from twinfra.compute.containers.images.names import Credential
from twinfra.compute.containers.images.unpack import Unpacker
from twinfra.compute.containers.machine import architecture
from twinfra.compute.containers.rootfs import resolve
from twinfra.core.errors import NotFound, SiteRejected

_RECORD = "image.json"


class ImageStore:
    """OCI layouts to look in, and the site's folder of unpacked images."""

    def __init__(self, layouts: Sequence[Path], unpacked: Path, *, sealed: bool = False) -> None:
        """Look into `layouts`, unpack below `unpacked`.

        Args:
            layouts: OCI layouts, the first that has a reference wins.
            unpacked: the site's own folder.
            sealed: unpack without any permission to write, for runtimes that do not isolate.
        """
        self._layouts = tuple(Layout(path) for path in layouts)
        self._unpacked = unpacked
        self._sealed = sealed

    def references(self) -> list[str]:
        """Return every named image of the layouts."""
        return sorted({name for layout in self._layouts for name, _ in layout.manifests() if name})

    def resolve(self, reference: str) -> str:
        """Return the manifest digest of `name:tag` (no tag: latest) or `name@sha256:...`.

        Raises:
            NotFound: no layout has it.
            InvalidRequest: not a reference.
        """
        return self._find(reference)[1].digest

    def ensure(
        self,
        reference: str,
        credentials: Mapping[str, Credential] | None = None,
        *,
        policy: str = "",
    ) -> UnpackedImage:
        """Unpack the image unless it is there already; blocks (run it in a thread).

        Accounts and policy are for stores that pull; this one has what its layouts have.

        Every blob is verified by digest; two callers at once unpack once; a crash leaves nothing
        half done that a later call would take for whole.

        Raises:
            NotFound: no layout has it.
            SiteRejected: a digest does not match, or the content tries to leave the folder.
        """
        del credentials, policy
        wanted = parse_reference(reference)
        if wanted.digest:
            ready = self._ready(reference, wanted.digest)
            if ready is not None:
                return ready
        layout, manifest = self._find(reference)
        folder = self._folder(manifest.digest)
        self._unpacked.mkdir(parents=True, exist_ok=True)
        with FileLock(self._unpacked / f".{folder.name}.lock"):
            ready = self._ready(reference, manifest.digest)
            if ready is None:
                self._unpack(layout, manifest, folder)
                ready = self._ready(reference, manifest.digest)
        if ready is None:
            raise SiteRejected("the unpacked image is not readable")
        return ready

    def remove(self, digest: str) -> None:
        """Drop an unpacked image that no container uses any more."""
        folder = self._folder(digest)
        with FileLock(self._unpacked / f".{folder.name}.lock"):
            if folder.is_dir():
                doomed = folder.rename(folder.with_name(f".{folder.name}.removed"))
                subprocess.run(
                    ["chmod", "-R", "u+rwX", doomed], check=False, stdin=subprocess.DEVNULL
                )
                shutil.rmtree(doomed)

    def _folder(self, digest: str) -> Path:
        # A colon would end the path in the options of mounts and of proot.
        return self._unpacked / digest.replace(":", "-")

    def _find(self, reference: str) -> tuple[Layout, Descriptor]:
        wanted = parse_reference(reference)
        for layout in self._layouts:
            for name, found in layout.manifests():
                hit = found.digest == wanted.digest if wanted.digest else name == wanted.tagged
                if hit:
                    return layout, self._for_here(layout, found)
        raise NotFound(f"no image {reference} here")

    @staticmethod
    def _for_here(layout: Layout, found: Descriptor) -> Descriptor:
        """Follow an index of several platforms to this machine's manifest."""
        if found.media_type != MEDIA_INDEX:
            return found
        for item in layout.read_json(found).get("manifests", ()):
            if item.get("platform", {}).get("architecture") == architecture():
                return descriptor_of(item)
        raise NotFound(f"the image is not made for {architecture()}")

    def _ready(self, reference: str, digest: str) -> UnpackedImage | None:
        folder = self._folder(digest)
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        config = ImageConfig(
            **{
                **record["config"],
                "entrypoint": tuple(record["config"]["entrypoint"]),
                "cmd": tuple(record["config"]["cmd"]),
            }
        )
        return UnpackedImage(
            reference=reference,
            digest=digest,
            rootfs=folder / "rootfs",
            config=config,
            uid=record["uid"],
            gid=record["gid"],
        )

    def _unpack(self, layout: Layout, manifest: Descriptor, folder: Path) -> None:
        data = layout.read_json(manifest)
        try:
            raw = layout.read_json(descriptor_of(data["config"]))
            layers = [descriptor_of(item) for item in data["layers"]]
            diff_ids = [str(item) for item in raw["rootfs"]["diff_ids"]]
        except (KeyError, TypeError) as error:
            raise SiteRejected("the image has a malformed manifest") from error
        if len(layers) != len(diff_ids):
            raise SiteRejected("the image's layers and their digests differ in number")
        config = config_of(raw)
        if config.architecture not in {"", architecture()}:
            raise SiteRejected(f"the image is made for {config.architecture[:32]}")
        for layer in layers:
            layout.verify(layer)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=self._unpacked) as work:
            rootfs = Path(work, "rootfs")
            rootfs.mkdir(mode=0o755)
            unpacker = Unpacker(rootfs, sealed=self._sealed)
            for layer, diff_id in zip(layers, diff_ids, strict=True):
                unpacker.apply(layout.blob(layer.digest), layer.media_type, diff_id)
            uid, gid = user_of(rootfs, config.user)
            unpacker.finish()
            record = {"config": asdict(config), "uid": uid, "gid": gid}
            Path(work, _RECORD).write_text(json.dumps(record), encoding="utf-8")
            Path(work).chmod(0o755)
            # The name must not become durable before what it names.
            subprocess.run(["sync", "-f", work], check=False, stdin=subprocess.DEVNULL)
            Path(work).rename(folder)
            Path(work).mkdir()  # for the context manager to remove


def config_of(raw: dict[str, Any]) -> ImageConfig:
    """Read an OCI image configuration.

    Raises:
        SiteRejected: it is malformed.
    """
    inner = raw.get("config") or {}
    try:
        pairs = [str(item).partition("=") for item in inner.get("Env") or ()]
        return ImageConfig(
            env={name: value for name, _, value in pairs if name},
            entrypoint=tuple(str(word) for word in inner.get("Entrypoint") or ()),
            cmd=tuple(str(word) for word in inner.get("Cmd") or ()),
            workdir=str(inner.get("WorkingDir") or "/"),
            user=str(inner.get("User") or ""),
            labels={str(key): str(value) for key, value in (inner.get("Labels") or {}).items()},
            architecture=str(raw.get("architecture", "")),
        )
    except (AttributeError, TypeError) as error:
        raise SiteRejected("the image has a malformed configuration") from error


def user_of(rootfs: Path, user: str) -> tuple[int, int]:
    """Look an image's user up in its own files.

    Raises:
        SiteRejected: the image does not know its own user.
    """
    name, _, group = user.partition(":")
    uid, gid = 0, 0
    if name.isdigit():
        uid = int(name)
    for fields in _lines(rootfs, "etc/passwd"):
        if name == (fields[2] if name.isdigit() else fields[0]):
            uid, gid = int(fields[2]), int(fields[3])
            break
    else:
        if name and not name.isdigit():
            raise SiteRejected(f"the image has no user {name[:64]!r}")
    if not group:
        return uid, gid
    if group.isdigit():
        return uid, int(group)
    for fields in _lines(rootfs, "etc/group"):
        if fields[0] == group:
            return uid, int(fields[2])
    raise SiteRejected(f"the image has no group {group[:64]!r}")


def _lines(rootfs: Path, name: str) -> list[list[str]]:
    path = rootfs / resolve(rootfs, PurePosixPath("/", name)).relative_to("/")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = [line.split(":") for line in lines]
    return [row for row in rows if len(row) > 3 and row[2].isdigit()]
