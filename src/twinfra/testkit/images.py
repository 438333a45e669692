"""A tiny real image for tests: a static busybox with all its applets, built in milliseconds.

Needs the Debian package `busybox-static`; no network, no root.
"""

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from twinfra.compute.containers.images.build import BuiltImage, build_image
from twinfra.compute.containers.images.layout import Layout
from twinfra.compute.containers.images.model import (
    MEDIA_CONFIG,
    MEDIA_INDEX,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
)
from twinfra.compute.containers.images.recipe import read_recipe

BUSYBOX = "busybox:1"
_RECIPE = """
name = "busybox"
tag = "1"
cmd = ["sh"]
env = { PATH = "/bin" }
[[files]]
source = "root"
target = "/"
"""


def busybox_image(layout: Path, work: Path) -> BuiltImage:
    """Build `BUSYBOX` into a layout.

    Args:
        layout: made if missing.
        work: an empty folder; the recipe is written there.

    Raises:
        AssertionError: no static busybox on this machine.
    """
    found = shutil.which("busybox", path="/bin:/usr/bin")
    assert found, "install the Debian package busybox-static"
    binaries = work / "root" / "bin"
    binaries.mkdir(parents=True)
    shutil.copyfile(found, binaries / "busybox")
    (binaries / "busybox").chmod(0o755)
    listed = subprocess.run(
        [found, "--list"], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=20
    )
    for name in listed.stdout.decode().split():
        if name != "busybox":
            (binaries / name).symlink_to("busybox")
    etc = work / "root" / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="ascii")
    (etc / "group").write_text("root:x:0:\n", encoding="ascii")
    (work / "root" / "root").mkdir()
    (work / "recipe.toml").write_text(_RECIPE, encoding="utf-8")
    return build_image(read_recipe(work / "recipe.toml"), layout)


def image_for(layout: Path, name: str, *architectures: str) -> str:
    """Write an index of images that hold no file, one for each architecture; returns its name.

    Args:
        layout: made if missing.
        name: of the index there, as ``name:tag``.
        architectures: as OCI spells them.
    """
    made = Layout(layout)
    made.create()
    tar = bytes(10240)
    layer = made.put(MEDIA_LAYER, gzip.compress(tar, mtime=0))
    entries = []
    for architecture in architectures:
        platform = {"os": "linux", "architecture": architecture}
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]}
        config = made.put(MEDIA_CONFIG, _json({**platform, "rootfs": rootfs}))
        body = {"config": config.as_json(), "layers": [layer.as_json()]}
        manifest = made.put(MEDIA_MANIFEST, _json(_document(MEDIA_MANIFEST, **body)))
        entries.append({**manifest.as_json(), "platform": platform})
    index = made.put(MEDIA_INDEX, _json(_document(MEDIA_INDEX, manifests=entries)))
    made.name(name, index, architectures[0])
    return name


def _document(media_type: str, **body: object) -> dict[str, object]:
    return {"schemaVersion": 2, "mediaType": media_type, **body}


def _json(body: dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()
