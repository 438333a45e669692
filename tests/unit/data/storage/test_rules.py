"""Pure rules of storages: paths, URLs, listings of foreign servers, errors of the system."""

import errno

import pytest

from twinfra.core.errors import InvalidRequest, UpstreamFault
from twinfra.data.storage.client import (
    AccessDenied,
    FileMissing,
    LocalStorage,
    NoRoom,
    WebDavStorage,
    open_storage,
    schemes,
)
from twinfra.data.storage.errors import error_from_os
from twinfra.data.storage.model import clean, same_checksum
from twinfra.data.storage.multistatus import MultiStatus

LISTING = b"""<?xml version="1.0"?>
<D:multistatus xmlns:D="DAV:" xmlns:x="urn:x">
<D:response><D:href>https://h:1/dav/a%20b/</D:href><D:propstat><D:prop>
<D:resourcetype><D:collection/></D:resourcetype><D:getcontentlength/></D:prop></D:propstat>
</D:response>
<D:response><D:href>/dav/a%20b/f</D:href><D:propstat><D:prop><D:resourcetype/>
<D:getcontentlength>12</D:getcontentlength><x:y><x:z>1</x:z></x:y>
<D:getlastmodified>Tue, 01 Jul 2025 10:00:00 GMT</D:getlastmodified></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat>
<D:propstat><D:prop><D:getetag/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>
</D:response></D:multistatus>"""


def test_listing_is_read_however_it_arrives():
    for step in (1, 7, 10_000):
        parser = MultiStatus("/dav")
        found = []
        for start in range(0, len(LISTING), step):
            found += parser.feed(LISTING[start : start + step])
        found += parser.feed(b"", last=True)
        assert [(entry.path, entry.kind, entry.size_bytes) for entry in found] == [
            ("/a b", "directory", 0),
            ("/a b/f", "file", 12),
        ]
        assert found[1].modified_at.isoformat() == "2025-07-01T10:00:00+00:00"
        assert found[1].name == "f"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"not XML",
        b'<!DOCTYPE m [<!ENTITY a "b">]><m/>',
        b"<a>" * 30 + b"</a>" * 30,
        b"<a>" + b"x" * 100_000 + b"</a>",
    ],
)
def test_listing_is_refused_when_it_is_something_else(body):
    with pytest.raises(UpstreamFault):
        list(MultiStatus().feed(body, last=True))


def test_storage_is_found_by_its_url(tmp_path):
    storage, path = open_storage(f"file://{tmp_path}/a%20b")
    assert isinstance(storage, LocalStorage)
    assert path == f"{tmp_path}/a b"
    storage, path = open_storage(str(tmp_path / "x"))
    assert (type(storage), path) == (LocalStorage, str(tmp_path / "x"))
    storage, path = open_storage("davs://h.test:1/dav/a%20b/")
    assert (type(storage), path) == (WebDavStorage, "/dav/a b/")
    assert set(schemes()) >= {"file", "https", "davs"}
    for bad in ("s3x://b/k", "https://user@h/f", "https://h/f?x", "file://elsewhere/f"):
        with pytest.raises(InvalidRequest):
            open_storage(bad)


def test_path_is_made_plain_or_refused():
    assert clean("//a/./b//") == "/a/b"
    assert clean("/") == "/"
    for bad in ("a", "", "/a/../b", "/a\0"):
        with pytest.raises(InvalidRequest):
            clean(bad)


def test_checksums_agree_whatever_their_case():
    assert same_checksum("adler32", "0A1b", "a1B")
    assert same_checksum("md5", "AB", "ab")
    assert not same_checksum("md5", "0ab", "ab")


def test_errors_of_the_system_become_those_of_the_tree():
    for number, leaf in (
        (errno.ENOENT, FileMissing),
        (errno.EACCES, AccessDenied),
        (errno.EDQUOT, NoRoom),
        (errno.EIO, UpstreamFault),
    ):
        assert type(error_from_os(OSError(number, "x"), "/p")) is leaf
