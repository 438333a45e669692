"""Where data of pods is taken from and put to."""

import os

import pytest

from twinfra.compute.interlink.data.inputs import _Link, file_name, link_all, local_path
from twinfra.compute.interlink.data.outputs import written
from twinfra.compute.interlink.pods.request import OUTPUT_ROOT, DataMount
from twinfra.core.errors import InvalidRequest
from twinfra.data.datasets.client import Did

MOUNT = DataMount("climate", "model", OUTPUT_ROOT / "climate" / "model")


@pytest.mark.parametrize(
    ("pfn", "path"),
    [
        ("https://localhost:1/dav/incoming/a.nc", "incoming/a.nc"),
        ("https://localhost:1/dav/incoming/a%20b.nc", "incoming/a b.nc"),
        ("https://localhost:1/elsewhere/a.nc", None),
        ("https://localhost:1/dav/../../etc/passwd", None),
        ("https://localhost:1/dav/%2e%2e/secret", None),
        ("https://localhost:1/davx/a", None),
    ],
)
def test_a_replicas_file_is_below_the_storage_or_nowhere(tmp_path, pfn, path):
    assert local_path(pfn, tmp_path) == (None if path is None else tmp_path / path)


def test_a_link_out_of_the_storage_is_not_followed(tmp_path):
    storage = tmp_path / "storage"
    storage.mkdir()
    (tmp_path / "secret").write_text("x")
    (storage / "door").symlink_to(tmp_path)
    assert local_path("https://h/dav/door/secret", storage) is None


def test_files_lose_their_datasets_name():
    assert file_name(Did("c", "model.v1"), Did("c", "model.v1/deep/w.bin")) == "deep/w.bin"
    assert file_name(Did("c", "all"), Did("c", "scenarios/A1B.nc")) == "scenarios/A1B.nc"


def test_links_are_made_once_and_only_of_whole_files(tmp_path):
    source = tmp_path / "a"
    source.write_bytes(b"four")
    good = _Link(source, tmp_path / "job" / "deep" / "a", 4)
    short = _Link(source, tmp_path / "job" / "b", 5)
    absent = _Link(tmp_path / "none", tmp_path / "job" / "c", None)
    assert link_all([good, short, absent]) == (1, 2)
    assert link_all([good]) == (0, 0)
    assert good.target.stat().st_ino == source.stat().st_ino
    assert not short.target.exists()


def test_a_file_is_copied_when_it_cannot_be_linked(tmp_path, monkeypatch):
    source = tmp_path / "a"
    source.write_bytes(b"four")

    def refused(*_):
        raise OSError(18, "cross-device")

    monkeypatch.setattr(os, "link", refused)
    assert link_all([_Link(source, tmp_path / "b", 4)]) == (1, 0)
    assert (tmp_path / "b").read_bytes() == b"four"


def test_outputs_are_checksummed_in_order(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_bytes(b"Wikipedia")
    (tmp_path / "a").write_bytes(b"")
    first, second = written(tmp_path, MOUNT)
    assert (first.name, first.adler32, first.size_bytes) == ("a", "00000001", 0)
    assert (second.name, second.adler32) == ("deep/b", "11e60398")


@pytest.mark.parametrize("make", ["nothing", "symlink", "odd name"])
def test_outputs_are_refused_when_they_cannot_be_registered(tmp_path, make):
    if make == "symlink":
        (tmp_path / "passwd").symlink_to("/etc/passwd")
    if make == "odd name":
        (tmp_path / "a b\n").write_text("x")
    with pytest.raises(InvalidRequest, match="climate:model"):
        written(tmp_path, MOUNT)
