"""Real images from real packages: both ways to build, read by strangers, run by the keeper."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twinfra.compute.containers.images import debian
from twinfra.compute.containers.images.build import build_image
from twinfra.compute.containers.images.recipe import read_recipe
from twinfra.compute.containers.images.store import ImageStore
from twinfra.core.settings import cache_folder
from twinfra.testkit.images import BUSYBOX

RECIPE = """
name = "twin"
tag = "1"
debian = ["python3", "ca-certificates"]
requirements = "requirements.lock"
entrypoint = ["python3", "/app/main.py"]
cmd = ["default"]
env = { GREETING = "hello $(id)" }
workdir = "/app"
[[files]]
source = "app"
target = "/app"
"""
MAIN = """
import json, os, ssl, sys
import filelock
print(json.dumps({
    "argv": sys.argv[1:], "greeting": os.environ["GREETING"], "cwd": os.getcwd(),
    "filelock": filelock.__file__, "authorities": len(ssl.create_default_context().get_ca_certs()),
    "cached": filelock.__cached__ is not None and os.path.exists(filelock.__cached__),
}))
"""


@pytest.fixture(scope="module")
def lock():
    """The hashes of a small wheel without dependencies, as this machine's pip gets it."""
    folder = Path(__file__).with_name("wheel.lock")
    return folder.read_text()


def recipe(folder: Path, lock: str) -> Path:
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "main.py").write_text(MAIN)
    (folder / "requirements.lock").write_text(lock)
    (folder / "recipe.toml").write_text(RECIPE)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def built(open_folder, lock):
    """One build by this user's way (as root: mmdebstrap), and its steps."""
    steps = []
    path = recipe(open_folder / "recipe", lock)
    # Kept from run to run: the packages' layer is the same until the recipe's packages change.
    layout = cache_folder() / "test-images"
    image = build_image(read_recipe(path), layout, lambda step, _: steps.append(step))
    return image, layout, path, steps


async def run(bench, runtime, layout, reference):
    store = ImageStore([layout], bench.folder / "twins")
    image = await asyncio.to_thread(store.ensure, reference)
    bench.rootfs = image.rootfs
    spec = {"env": image.config.env, "cwd": image.config.workdir}
    item = bench.container(runtime, *image.command(None, None), spec=spec)
    state = await bench.run(bench.plan(runtime, item))
    assert state.phase == "Succeeded", bench.logs()
    return json.loads(bench.logs())


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_an_image_of_packages_wheels_and_files_runs(bench, runtime, built):
    said = await run(bench, runtime, built[1], built[0].reference)
    assert said["argv"] == ["default"]
    assert said["greeting"] == "hello $(id)"
    assert said["cwd"] == "/app"
    assert said["filelock"].startswith("/usr/local/lib/python3.")
    assert said["authorities"] > 50


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_only_the_files_are_built_again_when_only_they_change(built):
    image, layout, path, steps = built
    assert list(dict.fromkeys(steps)) == ["os", "wheels", "files", "done"]
    told = []
    path.with_name("app").joinpath("main.py").write_text(MAIN + "\n# changed\n")
    again = build_image(read_recipe(path), layout, lambda step, what: told.append((step, what)))
    path.with_name("app").joinpath("main.py").write_text(MAIN)
    assert again.layers[:2] == image.layers[:2]
    assert again.layers[2] != image.layers[2]
    assert [what for step, what in told if step in {"os", "wheels"}] == ["unchanged"] * 2
    back = build_image(read_recipe(path), layout)
    assert back.digest == image.digest


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.real("skopeo")
def test_skopeo_reads_the_layout(built):
    image, layout, *_ = built
    done = subprocess.run(
        ["skopeo", "inspect", f"oci:{layout}:{image.reference}"],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["Digest"] == image.digest
    assert said["Layers"] == list(image.layers)
    assert said["Env"] == ["GREETING=hello $(id)"]


@pytest.mark.real("umoci")
def test_umoci_unpacks_what_we_unpack(rootfs, open_folder):
    bundle = open_folder / "bundle"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    subprocess.run(
        ["umoci", "unpack", *rootless, "--image", f"{open_folder}/layout:{BUSYBOX}", bundle],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    theirs = bundle / "rootfs"
    assert names(rootfs) == names(theirs)
    for name in ("etc/passwd", "bin/busybox", "bin/sh"):
        assert (rootfs / name).read_bytes() == (theirs / name).read_bytes()


def names(root: Path) -> set[str]:
    found = set()
    for folder, folders, files in os.walk(root):
        found |= {str(Path(folder, name).relative_to(root)) for name in (*folders, *files)}
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_an_ordinary_user_builds_without_root(bench, bubblewrap, lock, open_folder):
    """As uid 65534 if we are root, in a process of its own; run by our keeper."""
    work = open_folder / "theirs"
    path = recipe(work / "recipe", lock)
    program = (
        "import sys; from pathlib import Path;"
        "from twinfra.compute.containers.images import build, debian, recipe;"
        "assert not debian.with_scripts();"
        "build.build_image(recipe.read_recipe(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    user, python = [], sys.executable
    if os.geteuid() == 0:
        work.chmod(0o777)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        python = open_python()
    search = ":".join(entry for entry in sys.path if entry.endswith(("site-packages", "/src")))
    log = work / "log"
    with log.open("wb") as sink:
        done = await asyncio.to_thread(
            subprocess.run,
            [*user, "env", f"PYTHONPATH={search}", f"HOME={work}", python, "-c", program,
             path, work / "layout"],
            check=False, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
        )  # fmt: skip
    assert done.returncode == 0, log.read_text()
    said = await run(bench, bubblewrap, work / "layout", "twin:1")
    assert said["authorities"] > 50
    assert said["argv"] == ["default"]


def open_python() -> str:
    """Return a Python of our version that another user can execute; ours may be in /root."""
    name = f"/usr/bin/python3.{sys.version_info.minor}"
    return name if Path(name).exists() else sys.executable


def test_a_root_build_can_be_chosen_here():
    assert debian.with_scripts() == (os.geteuid() == 0 and shutil.which("mmdebstrap") is not None)
