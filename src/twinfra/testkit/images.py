"""A tiny real image for tests: a static busybox with all its applets, built in milliseconds.

Needs the Debian package `busybox-static`; no network, no root.
"""

import shutil
import subprocess
from pathlib import Path

from twinfra.compute.containers.images.build import BuiltImage, build_image
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
