"""How the runtimes' command lines are built: data stays data, secrets stay out of `ps`."""

from pathlib import Path, PurePosixPath

import pytest

from twinfra.compute.containers.bubblewrap import BubblewrapRuntime
from twinfra.compute.containers.choose import choose_runtime
from twinfra.compute.containers.model import ContainerSpec, Isolation, Mount
from twinfra.compute.containers.proot import ProotRuntime
from twinfra.core.errors import InvalidRequest, NotFound


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "rootfs"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "env").write_text("")
    return root


def spec(rootfs, **fields):
    fields = {"command": ("sh", "-c", "$(id)"), "scratch": rootfs.parent / "s", **fields}
    return ContainerSpec(rootfs, **fields)


BWRAP = BubblewrapRuntime(Path("/usr/bin/bwrap"))
PROOT = ProotRuntime(Path("/usr/bin/proot"))


def test_environment_is_hidden_and_never_reaches_the_sandbox_command_itself(rootfs):
    made = BWRAP.launch(spec(rootfs, env={"LD_PRELOAD": "/evil.so", "SECRET": "s3cret"}))
    assert made.env == {}
    assert "s3cret" not in " ".join((*made.prefix, *made.command))
    at = made.hidden.index("SECRET")
    assert made.hidden[at - 1 : at + 2] == ("--setenv", "SECRET", "s3cret")
    assert made.command == ("sh", "-c", "$(id)")


def test_guards_are_always_there(rootfs):
    hidden = BWRAP.launch(spec(rootfs)).hidden
    for word in ("--unshare-user", "--unshare-pid", "--die-with-parent", "--new-session"):
        assert word in hidden
    assert hidden[hidden.index("--cap-drop") + 1] == "ALL"
    assert "--clearenv" in hidden
    assert hidden[hidden.index("--remount-ro") + 1] == "/"


def test_loader_variables_reach_only_the_container_under_proot(rootfs):
    made = PROOT.launch(spec(rootfs, env={"LD_PRELOAD": "/e.so", "PROOT_LOADER": "/x", "A": "b"}))
    assert "A" in made.env
    assert not {"LD_PRELOAD", "PROOT_LOADER"} & set(made.env)
    assert made.prefix[-3:] == ("/usr/bin/env", "LD_PRELOAD=/e.so", "PROOT_LOADER=/x")
    assert made.inner_env["LD_PRELOAD"] == "/e.so"


def test_paths_that_proot_would_read_otherwise_are_refused(rootfs, tmp_path):
    (tmp_path / "a:b").mkdir()
    mounts = (Mount(tmp_path / "a:b", PurePosixPath("/x")),)
    with pytest.raises(InvalidRequest):
        PROOT.launch(spec(rootfs, mounts=mounts))
    assert str(tmp_path / "a:b") in BWRAP.launch(spec(rootfs, mounts=mounts)).hidden


@pytest.mark.parametrize("runtime", [BWRAP, PROOT], ids=lambda runtime: runtime.name)
@pytest.mark.parametrize(
    "fields",
    [
        {"command": ()},
        {"command": ("",)},
        {"command": ("a\0",)},
        {"env": {"A": "\0"}},
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"cwd": "relative"},
        {"mounts": (Mount(Path("/tmp"), PurePosixPath("relative")),)},
        {"mounts": (Mount(Path("/tmp"), PurePosixPath("/a/../b")),)},
    ],
)
def test_what_no_process_can_be_given_is_refused(rootfs, runtime, fields):
    with pytest.raises(InvalidRequest):
        runtime.launch(spec(rootfs, **fields))


@pytest.mark.parametrize("runtime", [BWRAP, PROOT], ids=lambda runtime: runtime.name)
def test_an_image_that_is_not_there_is_not_found(tmp_path, runtime):
    with pytest.raises(NotFound):
        runtime.launch(spec(tmp_path / "missing"))


class FakeRuntime:
    def __init__(self, name, available, isolated):
        self.name = name
        self.said = Isolation(name, available, isolated, "because", "do this")

    def probe(self):
        return self.said

    def launch(self, spec):
        raise NotImplementedError


def test_the_better_runtime_is_chosen_and_the_other_not_asked():
    best, second = FakeRuntime("a", True, True), FakeRuntime("b", True, False)
    assert choose_runtime([best, second]) == (best, (best.said,))


def test_the_next_runtime_is_chosen_and_why_is_told():
    best, second = FakeRuntime("a", False, False), FakeRuntime("b", True, False)
    chosen, said = choose_runtime([best, second])
    assert chosen is second
    assert said[0].fix == "do this"


def test_none_is_chosen_where_none_works():
    chosen, said = choose_runtime([FakeRuntime("a", False, False)])
    assert chosen is None
    assert len(said) == 1
