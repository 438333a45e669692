"""A container writes where it likes: to a layer over its image, which stays as it is."""

import os
import subprocess
import tempfile
from pathlib import Path, PurePosixPath

import pytest

from twinfra.compute.containers.archive import keeper_python
from twinfra.compute.containers.bubblewrap import BubblewrapRuntime
from twinfra.compute.containers.keeper.model import SUCCEEDED
from twinfra.compute.containers.keeper.places import remove
from twinfra.compute.containers.model import Mount

from .conftest import NOBODY

WRITES = (
    "mkdir -p /opt/app /etc/app && echo new > /etc/app/f && echo x >> /etc/passwd && rm /bin/vi"
    " && test ! -e /bin/vi && test -d /opt/app && cat /etc/app/f"
)


@pytest.fixture
def layered(open_folder):
    """The runtime, its layers on the file system of the test's folders."""
    made = BubblewrapRuntime(layers=open_folder)
    answer = made.probe()
    assert (answer.available, answer.isolated, made._layered) == (True, True, True)
    assert not list(open_folder.glob(".probe-*"))
    return made


def content(rootfs):
    return sorted(
        (str(path.relative_to(rootfs)), path.lstat().st_mode, path.lstat().st_mtime_ns)
        for path in rootfs.rglob("*")
    )


@pytest.mark.story("Any pod: an image's own root can be written to, as on a node")
async def test_everything_can_be_written_and_the_image_stays(bench, layered, rootfs):
    before = content(rootfs)
    state, told = await bench.shell(layered, WRITES)
    assert (state.phase, told) == (SUCCEEDED, "new\n"), state
    assert content(rootfs) == before


async def test_an_ordinary_user_writes_to_what_is_theirs(bench, layered):
    script = "mkdir /mine && echo x > /mine/f && cat /mine/f"
    item = bench.container(layered, "sh", "-c", script)
    handle = await bench.start_as_nobody(bench.plan(layered, item))
    state = await handle.wait_finished(timeout_s=20)
    if os.access(bench.rootfs, os.W_OK, follow_symlinks=False) and os.geteuid() == 0:
        assert "Permission denied" in bench.logs(), state  # root unpacked the image here
    else:
        assert (state.phase, bench.logs()) == (SUCCEEDED, "x\n"), state


async def test_each_start_begins_with_the_image_alone(bench, layered):
    script = "test ! -e /etc/left || exit 9; echo x > /etc/left; ln -s / /data; exit 1"
    item = bench.container(layered, "sh", "-c", script)
    plan = bench.plan(layered, item, restart_policy="OnFailure", backoff_initial_s=0.1)
    handle = await bench.start(plan)
    state = await handle.wait_change()
    while state.containers[0].restart_count < 2:
        state = await handle.wait_change(state.sequence, timeout_s=20)
    await handle.cancel(0)
    state = await handle.wait_finished(timeout_s=20)
    ended = state.containers[0].terminated or state.containers[0].last_terminated
    assert ended.exit_code != 9


def test_what_a_container_left_is_removed_however_deep_and_closed_it_is(tmp_path):
    folder, kept = tmp_path / "left", tmp_path / "kept"
    kept.mkdir()
    folder.mkdir()
    (folder / "link").symlink_to(kept)
    (folder / "file").write_text("x")
    closed = folder / "closed"
    (closed / "within").mkdir(parents=True)
    (closed / "within").chmod(0)
    closed.chmod(0)
    home = Path.cwd()
    try:
        os.chdir(folder)
        for name in ("d",) * 1500 + ("n" * 200,) * 60:
            os.mkdir(name)  # noqa: PTH102 - a path this long has no other way
            os.chdir(name)
    finally:
        os.chdir(home)
    remove(str(folder))
    assert list(tmp_path.iterdir()) == [kept]
    remove(str(folder))


def test_an_ordinary_user_removes_what_the_kernel_left_closed(open_folder, keeper_archive):
    """A layer's work folder holds one of mode 0, which may not even be moved."""
    place = Path(tempfile.mkdtemp(dir=open_folder))
    closed = place / "left" / "layer-work" / "work"
    (closed / "deeper").mkdir(parents=True)
    for path in (closed / "deeper", closed):
        path.chmod(0)
    os.chown(place, NOBODY, -1)
    for path in (closed / "deeper", closed, *closed.parents[:2]):
        os.chown(path, NOBODY, -1)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from twinfra_keeper.places import remove; remove(sys.argv[2])"
    )
    user = ["setpriv", f"--reuid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run(
        [*user, keeper_python(), "-I", "-S", "-B", "-c", program, keeper_archive, place / "left"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert list(place.iterdir()) == []


async def test_mount_points_that_the_image_lacks_are_made_in_the_layer(
    bench, layered, rootfs, tmp_path
):
    (tmp_path / "f").write_text("given\n")
    mounts = (
        Mount(tmp_path, PurePosixPath("/etc/deep/er"), read_only=False),
        Mount(tmp_path / "f", PurePosixPath("/srv/one-file")),
    )
    script = "cat /etc/deep/er/f /srv/one-file; echo out > /etc/deep/er/g; echo y > /etc/z"
    state, told = await bench.shell(layered, script, spec={"mounts": mounts})
    assert (state.phase, told) == (SUCCEEDED, "given\ngiven\n"), state
    assert (tmp_path / "g").read_text() == "out\n"
    assert not (rootfs / "etc" / "deep").exists()


async def test_a_read_only_root_stays_so(bench, layered):
    script = "touch /etc/x 2>/dev/null && exit 7; exit 0"
    state, _ = await bench.shell(layered, script, spec={"read_only_root": True})
    assert state.phase == SUCCEEDED


async def test_the_kernels_switches_stay_closed(bench, layered):
    script = "echo 0 > /proc/sys/kernel/randomize_va_space && exit 7; exit 0"
    state, _ = await bench.shell(layered, script)
    assert state.phase == SUCCEEDED
