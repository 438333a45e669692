"""What an image is here: recipes, references, and the configuration that a container starts with.

Pure: no I/O. The neighbours `layout.py` and `store.py` read and write the bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from twinfra.core.errors import InvalidRequest

MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
REF_NAME = "org.opencontainers.image.ref.name"

_NAME = re.compile(r"[a-z0-9]+(?:[._/-][a-z0-9]+|__[a-z0-9]+|-+[a-z0-9]+)*")
_HOST = re.compile(r"(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+(?::\d+)?|[A-Za-z0-9-]+:\d+")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """`name[:tag][@sha256:...]`; the digest wins over the tag."""

    name: str
    tag: str = "latest"
    digest: str = ""

    @property
    def tagged(self) -> str:
        """Return `name:tag`, as the index of a layout spells it."""
        return f"{self.name}:{self.tag}"


def parse_reference(text: str) -> Reference:
    """Read a reference.

    Raises:
        InvalidRequest: not one.
    """
    rest, _, digest = text.partition("@")
    last = rest.rpartition("/")[2]
    name, tag = rest, "latest"
    if ":" in last:
        name, _, tag = rest.rpartition(":")
    host, _, path = name.partition("/")
    # A registry's host may carry a port and capitals; here it is only part of the name.
    checked = path if path and _HOST.fullmatch(host) else name
    if not _NAME.fullmatch(checked):
        raise InvalidRequest(f"not an image reference: {text[:128]!r}")
    if not _TAG.fullmatch(tag) or (digest and not _DIGEST.fullmatch(digest)):
        raise InvalidRequest(f"not an image reference: {text[:128]!r}")
    return Reference(name, tag, digest)


@dataclass(frozen=True)
class FileCopy:
    """A file or folder beside the recipe, and where the image has it."""

    source: Path
    target: PurePosixPath


@dataclass(frozen=True)
class ImageConfig:
    """What the image says about starting it (OCI image configuration, `config`)."""

    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    """As written: `uid`, `name`, `uid:gid` or `name:group`; empty is root."""
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""


@dataclass(frozen=True)
class Recipe:
    """How to build an image."""

    name: str
    tag: str
    config: ImageConfig
    debian: tuple[str, ...] = ()
    """Packages besides Debian's essential ones; empty means no Debian layer at all."""
    requirements: Path | None = None
    """Lock of Python wheels, each with its hashes; needs a python3 package."""
    files: tuple[FileCopy, ...] = ()

    @property
    def reference(self) -> str:
        """Return `name:tag`."""
        return f"{self.name}:{self.tag}"


@dataclass(frozen=True)
class UnpackedImage:
    """An image that is ready to be run on this site."""

    reference: str
    digest: str
    """Manifest digest, `sha256:...`."""
    rootfs: Path
    config: ImageConfig
    uid: int = 0
    gid: int = 0
    """The configuration's user, looked up in the image's own passwd and group files."""

    def command(
        self, command: tuple[str, ...] | None, args: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        """Return the argv by the rules of Kubernetes for `command` and `args` of a container.

        Source: Kubernetes, "Define a Command and Arguments for a Container".
        """
        if command:
            return (*command, *(args or ()))
        return (*self.config.entrypoint, *(args or self.config.cmd))
