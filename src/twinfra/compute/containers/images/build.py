"""Builds an image from a recipe into an OCI layout: operating system, wheels, files.

Each layer is kept by the hash of what it is made from, so a change of files rebuilds the last layer
only, and images with the same packages share their blobs. It must not run the image.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from twinfra.compute.containers.errors import ImageBuildFailed
from twinfra.compute.containers.images import debian, wheels
from twinfra.compute.containers.images.layout import Descriptor, Layout
from twinfra.compute.containers.images.model import (
    MEDIA_CONFIG,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
    Recipe,
)
from twinfra.compute.containers.images.tarball import Layer, compress, pack
from twinfra.compute.containers.machine import architecture

_BUILDER = 1  # raise it when the same inputs should give another layer
_CREATED = "1970-01-01T00:00:00Z"
_CACHE = ".cache"

Progress = Callable[[str, str], None]
"""Called with a step (`os`, `wheels`, `files`, `done`) and what is done in it."""


@dataclass(frozen=True)
class BuiltImage:
    """What a build leaves in the layout."""

    reference: str
    digest: str
    layers: tuple[str, ...]
    """Digests of the layers' blobs, lowest first."""


@dataclass(frozen=True)
class _Cached:
    descriptor: Descriptor
    diff_id: str
    python: str
    history: str


class ImageBuilder:
    """Builds into one layout; two builds of the same layer at once make it once."""

    def __init__(self, layout: Path, progress: Progress | None = None) -> None:
        self._layout = Layout(layout)
        self._cache = layout / _CACHE
        self._progress = progress or (lambda _step, _detail: None)

    def build(self, recipe: Recipe) -> BuiltImage:
        """Build the image, reusing every layer whose inputs are as before, and name it.

        Raises:
            ImageBuildFailed: apt, dpkg, mmdebstrap or pip failed; the layout's log says why.
        """
        self._layout.create()
        self._cache.mkdir(exist_ok=True)
        layers = []
        python = ""
        if recipe.debian:
            layers.append(self._os_layer(recipe.debian))
            python = layers[0].python
        if recipe.requirements is not None:
            layers.append(self._wheels_layer(recipe.requirements, python))
        if recipe.files:
            layers.append(self._files_layer(recipe))
        manifest = self._manifest(recipe, layers)
        self._layout.name(recipe.reference, manifest, architecture())
        self._progress("done", f"{recipe.reference} {manifest.digest}")
        digests = tuple(layer.descriptor.digest for layer in layers)
        return BuiltImage(recipe.reference, manifest.digest, digests)

    def _os_layer(self, packages: tuple[str, ...]) -> _Cached:
        key = _key("os", debian.release(), *sorted(set(packages)))

        def make(work: Path, log: Path) -> tuple[Layer, str]:
            if debian.with_scripts():
                self._progress("os", f"mmdebstrap: {' '.join(packages)}")
                tar = debian.bootstrap(packages, work, log)
                with tarfile.open(tar) as content:
                    names = content.getnames()
                return compress(tar, work / "layer"), debian.python_version(names)
            self._progress("os", f"apt-get download, dpkg-deb: {' '.join(packages)}")
            root = debian.extract(packages, work, log)
            names = [f"usr/bin/{path.name}" for path in (root / "usr/bin").iterdir()]
            layer = pack([(root, PurePosixPath("/"))], work / "layer", keep_modes=True)
            return layer, debian.python_version(names)

        return self._layer("os", key, f"debian {' '.join(packages)}", make)

    def _wheels_layer(self, lock: Path, python: str) -> _Cached:
        if not python:
            raise ImageBuildFailed("the recipe's Debian packages bring no python3")
        key = _key("wheels", python, debian.release(), lock.read_text(encoding="utf-8"))

        def make(work: Path, log: Path) -> tuple[Layer, str]:
            self._progress("wheels", f"pip: {lock.name} for Python {python}")
            folder = wheels.install(lock, python, work, log)
            return pack([(folder, wheels.target_of(python))], work / "layer"), python

        return self._layer("wheels", key, f"wheels of {lock.name}", make)

    def _files_layer(self, recipe: Recipe) -> _Cached:
        roots = [(item.source, item.target) for item in recipe.files]
        key = _key("files", *(line for item in roots for line in _contents(*item)))

        def make(work: Path, _log: Path) -> tuple[Layer, str]:
            self._progress("files", ", ".join(str(target) for _, target in roots))
            return pack(roots, work / "layer"), ""

        return self._layer("files", key, "files of the recipe", make)

    def _layer(
        self,
        kind: str,
        key: str,
        history: str,
        make: Callable[[Path, Path], tuple[Layer, str]],
    ) -> _Cached:
        """Return the layer of that key, made now unless it is there."""
        with FileLock(self._cache / f"{key}.lock"):
            found = self._recall(key, history)
            if found is not None:
                self._progress(kind, "unchanged")
                return found
            log = self._cache / f"{key}.log"
            work = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=self._layout.path))
            try:
                layer, python = make(work, log)
                descriptor = self._layout.adopt(MEDIA_LAYER, layer.file, layer.digest)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            record = {**descriptor.as_json(), "diff_id": layer.diff_id, "python": python}
            beside = self._cache / f".{key}.{os.getpid()}"
            beside.write_text(json.dumps(record), encoding="utf-8")
            beside.replace(self._cache / f"{key}.json")
            return _Cached(descriptor, layer.diff_id, python, history)

    def _recall(self, key: str, history: str) -> _Cached | None:
        try:
            record = json.loads((self._cache / f"{key}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        descriptor = Descriptor(record["mediaType"], record["digest"], record["size"])
        if not self._layout.blob(descriptor.digest).is_file():
            return None
        return _Cached(descriptor, record["diff_id"], record["python"], history)

    def _manifest(self, recipe: Recipe, layers: list[_Cached]) -> Descriptor:
        config = self._layout.put(MEDIA_CONFIG, _json(_configuration(recipe, layers)))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA_MANIFEST,
            "config": config.as_json(),
            "layers": [layer.descriptor.as_json() for layer in layers],
        }
        return self._layout.put(MEDIA_MANIFEST, _json(manifest))


def build_image(recipe: Recipe, layout: Path, progress: Progress | None = None) -> BuiltImage:
    """Build one image; see `ImageBuilder.build`."""
    return ImageBuilder(layout, progress).build(recipe)


def _configuration(recipe: Recipe, layers: list[_Cached]) -> dict[str, Any]:
    """Return the OCI image configuration; no time and no builder in it."""
    wanted = recipe.config
    inner: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in sorted(wanted.env.items())],
        "WorkingDir": wanted.workdir,
    }
    optional = {
        "Entrypoint": list(wanted.entrypoint),
        "Cmd": list(wanted.cmd),
        "User": wanted.user,
        "Labels": dict(wanted.labels),
    }
    inner |= {name: value for name, value in optional.items() if value}
    return {
        "created": _CREATED,
        "architecture": architecture(),
        "os": "linux",
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": _CREATED, "created_by": layer.history} for layer in layers],
    }


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()


def _key(*parts: str) -> str:
    text = "\0".join((str(_BUILDER), *parts))
    return f"{parts[0]}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _contents(source: Path, target: PurePosixPath) -> list[str]:
    """Return lines that change whenever the copied files do."""
    paths = [source]
    if source.is_dir():
        paths += sorted(source.rglob("*"))
    lines = [str(target)]
    for path in paths:
        name = str(path.relative_to(source))
        if path.is_symlink():
            lines.append(f"link {name} {path.readlink()}")
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"file {name} {path.stat().st_mode & 0o100:o} {digest}")
        else:
            lines.append(f"folder {name}")
    return lines
