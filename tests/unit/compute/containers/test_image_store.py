"""Layers written and applied: the same bytes each time, nothing outside, nothing unverified."""

import io
import json
import tarfile
import threading
from pathlib import Path, PurePosixPath

import pytest

from twinfra.compute.containers.images.build import build_image
from twinfra.compute.containers.images.layout import Descriptor, Layout
from twinfra.compute.containers.images.model import (
    MEDIA_CONFIG,
    MEDIA_INDEX,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
    FileCopy,
    ImageConfig,
    Recipe,
)
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.containers.images.tarball import compress, pack
from twinfra.compute.containers.machine import architecture
from twinfra.core.errors import InvalidRequest, NotFound, SiteRejected


class LayoutMaker:
    """Makes images of hand-made tars."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout(folder / "layout")
        self.layout.create()
        self.store = ImageStore([folder / "layout"], folder / "unpacked")

    def layer(self, *members):
        """Each member: (name, kind, content or link)."""
        file = self.folder / "some.tar"
        with tarfile.open(file, "w") as tar:
            for name, kind, content in members:
                info = tarfile.TarInfo(name)
                info.type, info.mode, info.mtime = kind, 0o755, 1000
                if kind == tarfile.REGTYPE:
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                else:
                    info.linkname = content
                    tar.addfile(info)
        layer = compress(file, self.folder / "layer")
        return self.layout.adopt(MEDIA_LAYER, layer.file, layer.digest), layer.diff_id

    def image(self, *layers, config=None, name="made:1", machine=None):
        configuration = {
            "architecture": machine or architecture(),
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
        }
        described = self.layout.put(MEDIA_CONFIG, json.dumps(configuration).encode())
        manifest = {
            "schemaVersion": 2,
            "config": described.as_json(),
            "layers": [blob.as_json() for blob, _ in layers],
        }
        found = self.layout.put(MEDIA_MANIFEST, json.dumps(manifest).encode())
        self.layout.name(name, found, machine or architecture())
        return found

    def files(self, name="made:1"):
        root = self.store.ensure(name).rootfs
        return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.fixture
def maker(tmp_path):
    return LayoutMaker(tmp_path)


DIR, FILE, LINK, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_later_layers_cover_and_whiteouts_remove(maker):
    lower = maker.layer(
        ("a", DIR, ""), ("a/one", FILE, b"1"), ("a/two", FILE, b"2"), ("b", DIR, ""),
        ("b/old", FILE, b"x"), ("c", FILE, b"file"), ("d", DIR, ""), ("d/in", FILE, b"x"),
    )  # fmt: skip
    upper = maker.layer(
        ("a/.wh.one", FILE, b""), ("a/two", FILE, b"new"), ("b/.wh..wh..opq", FILE, b""),
        ("b/fresh", FILE, b"y"), ("c", DIR, ""), ("c/in", FILE, b"z"), (".wh.d", FILE, b""),
    )  # fmt: skip
    maker.image(lower, upper)
    assert maker.files() == {"a", "a/two", "b", "b/fresh", "c", "c/in"}
    assert (maker.store.ensure("made:1").rootfs / "a/two").read_bytes() == b"new"


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", FILE, b"x")],
        [("a/../../evil", FILE, b"x")],
        [("a", FILE, b"x"), ("a/b", FILE, b"x")],
        [("hard", HARD, "../../outside")],
        [("hard", HARD, "missing")],
        [("to", LINK, "/etc"), ("hard", HARD, "to")],
        [("r1", LINK, "r2"), ("r2", LINK, "r1"), ("r1/x", FILE, b"x")],
    ],
    ids=range(7),
)
def test_an_image_that_would_leave_its_folder_is_refused(maker, members, tmp_path):
    (tmp_path / "outside").write_text("precious")
    maker.image(maker.layer(*members))
    with pytest.raises(SiteRejected):
        maker.store.ensure("made:1")
    assert not list(tmp_path.rglob("evil"))
    assert [path.name for path in (tmp_path / "unpacked").iterdir() if path.is_dir()] == []


def test_links_of_the_image_lead_within_it(maker, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    maker.image(
        maker.layer(
            ("up", LINK, "../../../.."),
            ("abs", LINK, str(outside)),
            ("abs/x", FILE, b"1"),
            ("up/y", FILE, b"2"),
            ("/slash", FILE, b"3"),
        )
    )
    found = maker.files()
    assert {"y", "slash"} <= found
    assert list(outside.iterdir()) == []
    assert str(outside).lstrip("/") + "/x" in found


def test_a_whiteout_removes_a_link_and_not_its_target(maker, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    lower = maker.layer(("link", LINK, str(outside)))
    maker.image(lower, maker.layer((".wh.link", FILE, b"")))
    assert maker.files() == set()
    assert (outside / "keep").exists()


def corrupt(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_corrupted_blob_is_refused_before_anything_is_unpacked(maker):
    layer = maker.layer(("a", FILE, b"x" * 1000))
    manifest = maker.image(layer)
    corrupt(maker.layout.blob(layer[0].digest))
    with pytest.raises(SiteRejected, match="corrupted"):
        maker.store.ensure("made:1")
    corrupt(maker.layout.blob(manifest.digest))
    with pytest.raises(SiteRejected):
        maker.store.ensure("made:1")


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(maker):
    blob, _ = maker.layer(("a", FILE, b"x"))
    maker.image((blob, "sha256:" + "0" * 64))
    with pytest.raises(SiteRejected, match="not what its configuration says"):
        maker.store.ensure("made:1")


def test_a_missing_blob_is_not_found(maker):
    layer = maker.layer(("a", FILE, b"x"))
    maker.image(layer)
    maker.layout.blob(layer[0].digest).unlink()
    with pytest.raises(NotFound):
        maker.store.ensure("made:1")


def test_an_image_of_another_machine_is_refused(maker):
    maker.image(maker.layer(("a", FILE, b"x")), machine="m68k")
    with pytest.raises(SiteRejected, match="m68k"):
        maker.store.ensure("made:1")


def test_an_index_of_platforms_leads_to_this_machines_image(maker):
    here = maker.image(maker.layer(("a", FILE, b"x")), name="here:1")
    entries = [
        {**here.as_json(), "digest": "sha256:" + "1" * 64, "platform": {"architecture": "m68k"}},
        {**here.as_json(), "platform": {"architecture": architecture()}},
    ]
    index = maker.layout.put(MEDIA_INDEX, json.dumps({"manifests": entries}).encode())
    maker.layout.name("many:1", index, architecture())
    assert maker.store.resolve("many:1") == here.digest
    assert maker.files("many:1") == {"a"}


def test_references_are_resolved_by_tag_and_by_digest(maker):
    manifest = maker.image(maker.layer(("a", FILE, b"x")), name="made:latest")
    for reference in ("made", "made:latest", f"made@{manifest.digest}", f"x:1@{manifest.digest}"):
        assert maker.store.resolve(reference) == manifest.digest
    assert maker.store.references() == ["made:latest"]
    for reference in ("made:2", "other", "made@sha256:" + "0" * 64):
        with pytest.raises(NotFound):
            maker.store.ensure(reference)
    with pytest.raises(InvalidRequest):
        maker.store.resolve("a b")


def test_the_user_is_looked_up_in_the_image(maker):
    passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1001:1002::/home/app:/bin/sh\n"
    layer = maker.layer(
        ("etc", DIR, ""),
        ("etc/passwd", FILE, passwd),
        ("etc/group", FILE, b"root:x:0:\nws:x:77:\n"),
    )
    for user, expected in (
        ("", (0, 0)), ("app", (1001, 1002)), ("1001", (1001, 1002)), ("4242", (4242, 0)),
        ("app:ws", (1001, 77)), ("5:6", (5, 6)),
    ):  # fmt: skip
        maker.image(layer, config={"User": user}, name=f"u:{user.replace(':', '-') or 'none'}")
        image = maker.store.ensure(f"u:{user.replace(':', '-') or 'none'}")
        assert (image.uid, image.gid) == expected
    maker.image(layer, config={"User": "ghost"}, name="ghost:1")
    with pytest.raises(SiteRejected, match="ghost"):
        maker.store.ensure("ghost:1")


def test_two_callers_at_once_unpack_once(maker, monkeypatch):
    maker.image(maker.layer(("a", FILE, b"x")))
    unpacked = []
    original = ImageStore._unpack
    monkeypatch.setattr(
        ImageStore, "_unpack", lambda self, *args: (unpacked.append(1), original(self, *args))
    )
    threads = [threading.Thread(target=maker.store.ensure, args=("made:1",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unpacked == [1]


def test_an_image_is_ready_without_its_layout_and_can_be_removed(maker, tmp_path):
    manifest = maker.image(maker.layer(("a", DIR, ""), ("a/b", FILE, b"x")), config={"Cmd": ["c"]})
    first = maker.store.ensure("made:1")
    (first.rootfs / "a").chmod(0o500)
    later = ImageStore([], tmp_path / "unpacked")
    again = later.ensure(f"made@{manifest.digest}")
    assert (again.rootfs, again.config.cmd) == (first.rootfs, ("c",))
    later.remove(manifest.digest)
    assert not first.rootfs.exists()
    with pytest.raises(NotFound):
        later.ensure(f"made@{manifest.digest}")


def test_nothing_may_be_written_when_the_store_is_sealed(maker, tmp_path):
    manifest = maker.image(maker.layer(("a", DIR, ""), ("a/b", FILE, b"x"), ("c/d", FILE, b"y")))
    sealed = ImageStore([maker.layout.path], tmp_path / "sealed", sealed=True)
    root = sealed.ensure("made:1").rootfs
    modes = {path.name: path.stat().st_mode & 0o777 for path in root.rglob("*")}
    assert modes == {"a": 0o555, "b": 0o555, "c": 0o555, "d": 0o555}
    sealed.remove(manifest.digest)
    assert not root.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"manifests": 3}', '{"manifests": [{"digest": 1}]}'])
def test_an_index_that_is_none_is_refused(maker, text):
    (maker.layout.path / "index.json").write_text(text)
    with pytest.raises((SiteRejected, NotFound)):
        maker.store.resolve("made:1")


def recipe(folder, **fields):
    return Recipe(
        "files",
        "1",
        ImageConfig(cmd=("x",)),
        files=(FileCopy(folder, PurePosixPath("/srv")),),
        **fields,
    )


def test_the_same_files_give_the_same_image_whoever_wrote_them(tmp_path):
    digests = set()
    for name, mode in (("one", 0o600), ("two", 0o664)):
        source = tmp_path / name / "src"
        (source / "sub").mkdir(parents=True)
        for file in ("z", "a", "sub/m"):
            (source / file).write_text(file)
            (source / file).chmod(mode)
        (source / "link").symlink_to("a")
        digests.add(build_image(recipe(source), tmp_path / name / "layout").digest)
    assert len(digests) == 1


def test_a_layer_holds_what_was_packed(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "run").write_text("#!")
    (source / "run").chmod(0o700)
    layer = pack([(source, PurePosixPath("/opt/x"))], tmp_path / "layer")
    with tarfile.open(layer.file, "r:gz") as tar:
        members = {member.name: member for member in tar}
    assert list(members) == ["opt", "opt/x", "opt/x/run"]
    assert members["opt/x/run"].mode == 0o755
    assert all(member.uid == 0 and member.mtime == 0 for member in members.values())


def test_names_in_one_layout_do_not_disturb_each_other(tmp_path):
    layout = Layout(tmp_path)
    layout.create()
    blob = layout.put(MEDIA_MANIFEST, b"{}")

    def name(number):
        layout.name(f"i:{number}", blob, "amd64")

    threads = [threading.Thread(target=name, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found for found, _ in layout.manifests()} == {f"i:{number}" for number in range(20)}
    assert isinstance(blob, Descriptor)
