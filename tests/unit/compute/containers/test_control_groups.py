"""Where control groups can be made, on trees of both versions as the kernel lays them."""

import pytest

from twinfra.compute.containers.keeper.cgroups import Groups
from twinfra.compute.containers.keeper.model import Limits

LIMITS = Limits(cpu=1.5, memory_bytes=1 << 20, pids=7)


def test_version_one_groups_are_made_below_the_own_ones(tmp_path):
    for name in ("memory", "cpu,cpuacct", "pids"):
        (tmp_path / name / "mine").mkdir(parents=True)
    mounts = "\n".join(
        f"cgroup {tmp_path}/{name} cgroup rw,relatime,{name} 0 0"
        for name in ("memory", "cpu,cpuacct", "pids")
    )
    own = "4:memory:/mine\n3:cpu,cpuacct:/mine\n2:pids:/mine\n1:name=systemd:/"
    group = Groups(mounts, own).open("pod")
    group.limit(LIMITS)
    assert group.version == "cgroup-v1"
    assert (tmp_path / "memory/mine/pod/memory.limit_in_bytes").read_text() == str(1 << 20)
    assert (tmp_path / "cpu,cpuacct/mine/pod/cpu.cfs_quota_us").read_text() == "150000"
    assert (tmp_path / "pids/mine/pod/pids.max").read_text() == "7"
    (tmp_path / "memory/mine/pod/memory.oom_control").write_text(
        "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
    )
    assert group.oom_kills() == 3
    (tmp_path / "memory/mine/pod/cgroup.procs").write_text("12\n13\n")
    assert group.pids() == [12, 13]


def unified(tmp_path, *, delegated):
    top = tmp_path / "user.slice"
    own = top / "app.slice" / "run.scope"
    own.mkdir(parents=True)
    for folder, controllers in ((tmp_path, "memory pids"), (top, delegated), (own.parent, "")):
        (folder / "cgroup.subtree_control").write_text(controllers)
        (folder / "cgroup.procs").write_text("")
    mounts = f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0"
    return Groups(mounts, "0::/user.slice/app.slice/run.scope")


def test_version_two_looks_upwards_for_a_folder_that_limits_its_children(tmp_path):
    group = unified(tmp_path, delegated="cpu memory pids").open("pod")
    group.limit(LIMITS)
    folder = tmp_path / "user.slice" / "pod"
    assert group.paths == (str(folder),)
    assert (folder / "memory.max").read_text() == str(1 << 20)
    assert (folder / "memory.oom.group").read_text() == "1"
    assert (folder / "cpu.max").read_text() == "150000 100000"
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.oom_kills() == 2


@pytest.mark.parametrize("controllers", ["", "cpu"])
def test_nothing_is_made_where_no_folder_limits_memory(tmp_path, controllers):
    groups = unified(tmp_path, delegated=controllers)
    (tmp_path / "cgroup.subtree_control").write_text("")
    assert groups.open("pod") is None
    assert sorted(path.name for path in (tmp_path / "user.slice").iterdir()) == [
        "app.slice", "cgroup.procs", "cgroup.subtree_control"
    ]  # fmt: skip


def test_nothing_is_made_where_nothing_is_mounted():
    assert Groups("proc /proc proc rw 0 0", "0::/").open("pod") is None
