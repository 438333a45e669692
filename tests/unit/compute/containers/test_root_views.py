"""What a container sees as its root."""

from pathlib import PurePosixPath

import pytest

from twinfra.compute.containers.model import ContainerSpec, Mount
from twinfra.compute.containers.rootfs import plan_view, resolve
from twinfra.core.errors import InvalidRequest, NotFound


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "rootfs"
    for name in ("usr/bin", "etc", "var", "tmp", "root", "data", "proc", "dev"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "var" / "run").symlink_to("/run")
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "usr" / "bin" / "tool").write_text("")
    return root


def spec(rootfs, *mounts, **fields):
    fields = {"network": "host", **fields}
    return ContainerSpec(rootfs, ("x",), rootfs.parent / "scratch", mounts=tuple(mounts), **fields)


def mount(tmp_path, target, **fields):
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    return Mount(source, PurePosixPath(target), **fields)


def steps(view):
    return [(step.kind, step.target) for step in view.steps]


@pytest.mark.parametrize(
    ("link", "target", "where"),
    [
        ("/etc", "/x/passwd", "/etc/passwd"),
        ("../../../../etc", "/x/passwd", "/etc/passwd"),
        ("usr/../usr/bin", "/x/tool", "/usr/bin/tool"),
        ("missing", "/x/y", "/missing/y"),
    ],
)
def test_links_of_the_image_are_followed_within_it(rootfs, link, target, where):
    (rootfs / "x").symlink_to(link)
    assert resolve(rootfs, PurePosixPath(target)) == PurePosixPath(where)


def test_links_that_go_round_are_refused(rootfs):
    (rootfs / "a").symlink_to("b")
    (rootfs / "b").symlink_to("a")
    with pytest.raises(InvalidRequest):
        resolve(rootfs, PurePosixPath("/a/x"))


def test_the_image_is_read_only_and_links_stay_links(rootfs):
    made = steps(plan_view(spec(rootfs)))
    assert ("read-only", "/usr") in made
    assert ("symlink", "/bin") in made
    assert ("writable", "/tmp") in made
    assert ("tmpfs", "/run") in made
    assert not any(target in {"/proc", "/dev"} for _, target in made)


def test_only_directories_above_a_missing_mount_point_are_rebuilt(rootfs, tmp_path):
    made = steps(plan_view(spec(rootfs, mount(tmp_path, "/etc/new/deep"))))
    assert ("directory", "/etc") in made
    assert ("read-only", "/etc/passwd") in made
    assert ("directory", "/etc/new") in made
    assert ("read-only", "/etc/new/deep") in made
    assert ("read-only", "/usr") in made


def test_nothing_is_rebuilt_where_the_mount_point_is_there(rootfs, tmp_path):
    made = steps(plan_view(spec(rootfs, mount(tmp_path, "/usr/bin"))))
    assert ("read-only", "/usr") in made
    assert made.index(("read-only", "/usr")) < made.index(("read-only", "/usr/bin"))


def test_a_mount_below_a_link_lands_where_it_leads(rootfs, tmp_path):
    made = steps(plan_view(spec(rootfs, mount(tmp_path, "/var/run/secrets"))))
    assert ("read-only", "/run/secrets") in made


def test_a_mount_of_the_pod_wins_over_the_usual_one(rootfs, tmp_path):
    view = plan_view(spec(rootfs, mount(tmp_path, "/tmp")))
    (found,) = [step for step in view.steps if step.target == "/tmp"]
    assert (found.kind, found.source) == ("read-only", str(tmp_path / "source"))


def test_outer_mounts_come_before_inner_ones(rootfs, tmp_path):
    inner, outer = mount(tmp_path, "/data/a/b"), mount(tmp_path, "/data/a", read_only=False)
    made = [target for _, target in steps(plan_view(spec(rootfs, inner, outer)))]
    assert made.index("/data/a") < made.index("/data/a/b")


@pytest.mark.parametrize("target", ["/", "/proc", "/dev", "/usr/.."])
def test_the_root_and_the_kernels_places_cannot_be_mounted_over(rootfs, tmp_path, target):
    with pytest.raises(InvalidRequest):
        plan_view(spec(rootfs, mount(tmp_path, target)))


def test_what_is_not_there_is_not_found(rootfs, tmp_path):
    with pytest.raises(NotFound):
        plan_view(spec(rootfs, Mount(tmp_path / "missing", PurePosixPath("/x"))))
    with pytest.raises(NotFound):
        plan_view(spec(rootfs / "missing"))


def test_a_strange_user_gets_a_name(rootfs):
    view = plan_view(spec(rootfs, uid=4711, gid=5))
    text = view.files[rootfs.parent / "scratch" / "etc" / "passwd"]
    assert "user:x:4711:5::/tmp:/bin/sh" in text
    assert "root:x:0:0" in text
    assert plan_view(spec(rootfs)).files == {}


def test_a_home_that_holds_something_is_not_hidden(rootfs):
    made = steps(plan_view(spec(rootfs)))
    assert ("writable", "/root") in made
    (rootfs / "root" / "data").write_text("x")
    made = steps(plan_view(spec(rootfs)))
    assert ("writable", "/root") not in made
