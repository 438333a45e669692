"""Pure rules: paths, ranges, conditions, digests, destinations, XML, selectors, orders, rates."""

import asyncio
import base64
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.core.errors import InvalidRequest, Unavailable
from twinfra.data.edge.copying.order import forwarded, order_of
from twinfra.data.edge.copying.rate import Rates, TokenBucket
from twinfra.data.edge.dav import conditions, digests
from twinfra.data.edge.dav.destination import (
    RemoteUrl,
    own_names,
    parse_destination,
    parse_url,
)
from twinfra.data.edge.dav.properties import Described, response
from twinfra.data.edge.dav.ranges import Span, parse_ranges
from twinfra.data.edge.dav.xml_bodies import DAV, Asked, parse_propfind, parse_proppatch
from twinfra.data.edge.events.frames import Selector, bodies
from twinfra.data.edge.files.tree import Found
from twinfra.data.edge.model import Checksums, StorageEvent, Version, moment_of
from twinfra.data.edge.paths import Resource, resource_of, split_target
from twinfra.data.edge.peers import RegisteredPeers
from twinfra.data.edge.ports import Peer
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.storage.digest_fields import (
    read_digest,
    read_repr_digest,
    wanted,
    write_digest,
    write_repr_digest,
)
from twinfra.testkit.clock import VirtualClock

VERSION = Version(1, 100, 1_700_000_000_000_000_000)
SUMS = Checksums("0a0b0c0d", "00" * 16, "11" * 32)


# ------------------------------------------------------------------- paths


@given(st.lists(st.text(min_size=1, max_size=12), max_size=6))
def test_href_leads_back_to_the_resource(parts):
    wanted_parts = tuple(
        part for part in parts if not ({"/", "\0"} & set(part)) and part not in {".", ".."}
    )
    try:
        resource = Resource(wanted_parts)
        href = resource.href().encode("ascii")
    except UnicodeEncodeError:
        return  # a lone surrogate has no UTF-8
    if wanted_parts[:1] != (".twinfra",):
        assert resource_of(href).parts == wanted_parts


def test_target_may_be_a_whole_url():
    assert split_target(b"https://h:1/dav/a?b") == (b"/dav/a", b"b")
    assert split_target(b"/dav/a") == (b"/dav/a", b"")
    for bad in (b"*", b"dav", b"/a#b"):
        with pytest.raises(HttpRefusal):
            split_target(bad)


def test_resource_is_none_when_it_is_elsewhere():
    assert resource_of(b"/davx/a") is None
    assert resource_of(b"/") is None
    assert resource_of(b"/dav") == Resource((), slash=True)
    assert resource_of(b"/dav//a//b/") == Resource(("a", "b"), slash=True)


# ------------------------------------------------------------------- ranges


@given(st.integers(1, 1000), st.integers(0, 1200), st.integers(0, 1200))
def test_range_lies_within_the_file(size, first, last):
    try:
        spans = parse_ranges(f"bytes={first}-{last}", size, 10)
    except HttpRefusal as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert (refused.status, first >= size) == (416, True)
        return
    if spans is None:
        assert first > last
        return
    (span,) = spans
    assert span.start == first
    assert span.start + span.length == min(last + 1, size)


def test_ranges_are_ignored_or_refused_when_they_make_no_sense():
    for field in ("bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bites=0-1", "bytes"):
        assert parse_ranges(field, 10, 5) is None
    with pytest.raises(HttpRefusal) as refused:
        parse_ranges("bytes=" + ",".join(["0-1"] * 6), 10, 5)
    assert refused.value.status == 400
    assert parse_ranges("bytes=0-,0-,0-", 10, 5) is None
    assert parse_ranges("bytes=-3", 10, 5) == [Span(7, 3)]
    with pytest.raises(HttpRefusal):
        parse_ranges("bytes=-0", 10, 5)


# ------------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("headers", "reading", "status"),
    [
        ({"if-match": VERSION.etag}, True, None),
        ({"if-match": '"x", ' + VERSION.etag}, False, None),
        ({"if-match": "*"}, False, None),
        ({"if-match": '"x"'}, False, 412),
        ({"if-match": "W/" + VERSION.etag}, False, 412),
        ({"if-none-match": VERSION.etag}, True, 304),
        ({"if-none-match": "W/" + VERSION.etag}, True, 304),
        ({"if-none-match": VERSION.etag}, False, 412),
        ({"if-none-match": '"x"'}, True, None),
        ({"if-modified-since": conditions.http_date(VERSION.mtime_ns)}, True, 304),
        ({"if-modified-since": conditions.http_date(VERSION.mtime_ns - 10**10)}, True, None),
        ({"if-unmodified-since": conditions.http_date(VERSION.mtime_ns)}, False, None),
        ({"if-unmodified-since": conditions.http_date(VERSION.mtime_ns - 10**10)}, False, 412),
        ({"if-modified-since": "nonsense"}, True, None),
    ],
)
def test_conditions_are_judged(headers, reading, status):
    if status is None:
        conditions.check(headers, VERSION, reading=reading)
        return
    with pytest.raises(HttpRefusal) as refused:
        conditions.check(headers, VERSION, reading=reading)
    assert refused.value.status == status


def test_conditions_on_nothing():
    conditions.check({"if-none-match": "*"}, None, reading=False)
    with pytest.raises(HttpRefusal):
        conditions.check({"if-match": "*"}, None, reading=False)


# ------------------------------------------------------------------- digests


@given(st.binary(min_size=52, max_size=52))
def test_digest_fields_lead_back(raw):
    sums = {"adler32": raw[:4].hex(), "md5": raw[4:20].hex(), "sha256": raw[20:].hex()}
    assert read_digest(write_digest(sums)) == sums
    assert read_repr_digest(write_repr_digest(sums)) == sums


def test_digest_is_read_as_servers_write_it():
    assert read_digest("ADLER32=84b021f") == {"adler32": "084b021f"}
    assert read_digest("md5=" + "0f" * 16 + ", crc32c=abc") == {"md5": "0f" * 16}
    assert read_digest("") == {}
    for bad in ("md5=zzz", "sha-256=" + base64.b64encode(b"short").decode()):
        with pytest.raises(ValueError, match=r"base64|bytes"):
            read_digest(bad)


def test_wanted_digests_come_in_the_order_of_preference():
    assert wanted("md5;q=0.3, ADLER32, sha-256;q=0, crc32") == ["adler32", "md5"]
    assert wanted("sha-256=3, md5=10, unixsum=1") == ["md5", "sha256"]
    assert wanted("") == []


def test_promised_digests_must_agree():
    same = {"digest": "adler32=1", "repr-digest": f"md5=:{base64.b64encode(bytes(16)).decode()}:"}
    assert digests.promised(same) == {"adler32": "00000001", "md5": "00" * 16}
    with pytest.raises(HttpRefusal, match="twice"):
        digests.promised({"digest": "adler32=1", "repr-digest": "adler=:AAAAAg==:"})


# ------------------------------------------------------------------- destinations


def test_destination_is_ours_or_remote():
    own = own_names("https://edge.test:8443", "alias.test:8443")
    assert parse_destination("/dav/a", own) == Resource(("a",))
    assert parse_destination("https://edge.test:8443/dav/a", own) == Resource(("a",))
    assert parse_destination("davs://ALIAS.test:8443/dav/a%20b", own) == Resource(("a b",))
    assert parse_destination("https://other.test/f", own) == RemoteUrl(
        "https", "other.test", 443, "/f"
    )
    with pytest.raises(HttpRefusal) as refused:
        parse_destination("https://edge.test:8443/elsewhere", own)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "ftp://h/f",
        "https://user@h/f",
        "https://h:99999/f",
        "https:///f",
        "https://h/f#x",
        "https://h\\@evil/f",
        "https://h/\r\nX: y",
        "https://h/" + "x" * 9000,
    ],
)
def test_url_is_refused_when_it_is_not_plain(text):
    with pytest.raises(HttpRefusal) as refused:
        parse_url(text)
    assert refused.value.status == 400


# ------------------------------------------------------------------- XML


def test_propfind_bodies_are_understood():
    assert parse_propfind(b"") == Asked("allprop")
    body = (
        b'<d:propfind xmlns:d="DAV:" xmlns:o="urn:o"><d:prop><d:getetag/><o:x/></d:prop>'
        b"</d:propfind>"
    )
    assert parse_propfind(body) == Asked("prop", [(DAV, "getetag"), ("urn:o", "x")])
    assert parse_propfind(b'<propfind xmlns="DAV:"><propname/></propfind>').kind == "propname"
    patch = (
        b'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><a xmlns="urn:a"><b/></a></D:prop>'
        b"</D:set>"
        b"<D:remove><D:prop><D:c/></D:prop></D:remove></D:propertyupdate>"
    )
    assert parse_proppatch(patch).names == [("urn:a", "a"), (DAV, "c")]


@pytest.mark.parametrize(
    "body",
    [
        b"<",
        b"<x/>",
        b'<propfind xmlns="DAV:"/>',
        b'<propfind xmlns="DAV:"><prop/><allprop/></propfind>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><propfind xmlns="DAV:"><allprop/></propfind>',
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><propfind xmlns="DAV:">&a;</propfind>',
        b'<propfind xmlns="DAV:"><prop>' + b"<a>" * 100 + b"</a>" * 100 + b"</prop></propfind>",
    ],
)
def test_xml_is_refused_when_it_is_more_than_names(body):
    with pytest.raises(HttpRefusal) as refused:
        parse_propfind(body)
    assert refused.value.status in {400, 413}


@given(st.text(st.characters(exclude_characters="/"), min_size=1, max_size=20))
def test_listing_is_xml_whatever_a_file_is_called(name):
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return
    item = Described(Resource((name,)), Found(name, VERSION, VERSION.mtime_ns), SUMS)
    text = response(item, Asked("allprop", [("urn:a&<b", "c")]))
    tree = ET.fromstring(f'<D:m xmlns:D="DAV:">{text}</D:m>')
    assert tree.find(".//{DAV:}href").text.startswith("/dav/")


# ------------------------------------------------------------------- events


def row(change="created", path="/d/f", directory=False, cookie=None):
    return {"change": change, "path": path, "directory": directory, "cookie": cookie}


def masks(selector: dict, **of_row) -> list[tuple[str | None, list[str]]]:
    found = Selector.from_json(selector)
    return [(event.get("name"), event["mask"]) for event in bodies(found, row(**of_row))]


def test_selector_takes_children_and_below_only_when_recursive():
    assert masks({"path": "/d"}) == [("f", ["IN_CREATE"]), ("f", ["IN_CLOSE_WRITE"])]
    assert masks({"path": "/"}) == []
    assert masks({"path": "/", "recursive": True, "flags": ["IN_CLOSE"]}) == [
        ("d/f", ["IN_CLOSE_WRITE"])
    ]
    assert masks({"path": "/d2", "recursive": True}) == []
    assert masks({"path": "/d/f"}) == [(None, ["IN_MODIFY"]), (None, ["IN_CLOSE_WRITE"])]


def test_changes_are_told_in_the_words_of_inotify():
    one = {"path": "/d"}
    assert masks(one, change="modified") == [("f", ["IN_MODIFY"]), ("f", ["IN_CLOSE_WRITE"])]
    assert masks(one, change="deleted") == [("f", ["IN_DELETE"])]
    assert masks(one, change="deleted", cookie="c") == [("f", ["IN_MOVED_FROM"])]
    assert masks(one, cookie="c") == [("f", ["IN_MOVED_TO"])]
    assert masks(one, directory=True) == [("f", ["IN_CREATE", "IN_ISDIR"])]
    assert masks(one, path="/d", directory=True, change="deleted") == [
        (None, ["IN_DELETE_SELF", "IN_ISDIR"])
    ]
    assert masks({"path": "/d", "flags": ["IN_DELETE"]}) == []


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"path": "d"},
        {"path": "/d/"},
        {"path": "/d", "flags": "IN_CREATE"},
        {"path": "/d", "flags": ["IN_NOTHING"]},
        {"path": "/d", "recursive": "yes"},
        {"path": "/d", "more": 1},
    ],
)
def test_selector_is_refused_when_it_is_not_of_its_form(body):
    with pytest.raises(InvalidRequest):
        Selector.from_json(body)


def test_storage_event_leads_back():
    at = moment_of(VERSION.mtime_ns)
    event = StorageEvent("i-1", 1, "created", "s", "S", "/f", at, 100, SUMS, at, None)
    assert StorageEvent.from_json(event.to_json()) == event
    assert event.to_json()["type"] == "org.twinfra.storage.created"


# ------------------------------------------------------------------- copies


def test_order_carries_only_what_is_meant_for_the_peer():
    headers = {
        "authorization": "Bearer mine",
        "transferheaderauthorization": "Bearer theirs",
        "transferheaderx-y": "z",
        "copy-header": "X-Old: way",
        "requirechecksumverification": "False",
        "digest": "adler32=1",
    }
    order = order_of(headers, RemoteUrl("https", "h", 1, "/f"), overwrite=True)
    assert order.headers == {"authorization": "Bearer theirs", "x-y": "z", "x-old": "way"}
    assert order.verify is False
    assert order.promised == {"adler32": "00000001"}


@pytest.mark.parametrize("name", ["host", "content-length", "range", "te", "x y", "expect"])
def test_order_is_refused_when_it_sets_what_is_ours(name):
    with pytest.raises(HttpRefusal):
        forwarded({f"transferheader{name}": "x"})


async def test_bucket_keeps_to_its_rate():
    clock = VirtualClock()
    bucket = TokenBucket(1_000_000, clock)
    passed = []

    async def copy(name: str) -> None:
        for _ in range(10):
            await bucket.take(100_000)
            passed.append((name, clock.monotonic()))

    both = asyncio.gather(copy("a"), copy("b"))
    for _ in range(25):
        await clock.advance(0.1)
    await both
    assert passed[-1][1] == pytest.approx(1.9, abs=0.11)
    assert {name for name, _ in passed[:6]} == {"a", "b"}


def test_link_has_one_bucket_by_site_then_address_then_the_general_limit():
    rates = Rates(VirtualClock(), 5, {"left": 1, "h:2": 2})
    left, address, other = Peer("h", 1, "left"), Peer("h", 2), Peer("h", 3, "right")
    assert rates.bucket(left).rate_bytes_per_s == 1
    assert rates.bucket(address).rate_bytes_per_s == 2
    assert rates.bucket(other).rate_bytes_per_s == 5
    assert rates.bucket(left) is rates.bucket(Peer("elsewhere", 9, "left"))
    assert Rates(VirtualClock(), None, {}).bucket(left) is None


async def test_peers_are_asked_for_again_when_one_is_unknown_or_old():
    clock, answers, asked = VirtualClock(), {"a": "https://A.test:1"}, []

    async def ask():
        asked.append(clock.monotonic())
        if answers is None:
            raise Unavailable("the catalogue is away")
        return answers

    peers = RegisteredPeers(["fixed.test:7"], ask, clock, refresh_s=30)
    assert await peers.find("a.test", 1) == Peer("a.test", 1, "a")
    assert await peers.find("fixed.test", 7) == Peer("fixed.test", 7)
    assert await peers.find("a.test", 2) is None
    assert len(asked) == 1
    answers["b"] = "https://b.test"
    await clock.advance(1.1)
    assert await peers.find("b.test", 443) == Peer("b.test", 443, "b")
    answers = None
    await clock.advance(31)
    assert await peers.find("a.test", 1) == Peer("a.test", 1, "a")
    assert len(asked) == 3


async def test_a_peer_is_no_stranger_while_the_catalogue_is_silent():
    async def ask():
        raise Unavailable("it starts")

    peers = RegisteredPeers(["fixed.test:7"], ask, VirtualClock(), refresh_s=30)
    assert await peers.find("fixed.test", 7) == Peer("fixed.test", 7)
    with pytest.raises(Unavailable):
        await peers.find("a.test", 1)
