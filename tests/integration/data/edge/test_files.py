"""GET, HEAD, PUT, DELETE, MKCOL, MOVE and local COPY, as any client sends them."""

import asyncio
import base64
import hashlib
import zlib

BODY = b"the warming of the north\n" * 4000


def adler32(body: bytes) -> str:
    return f"{zlib.adler32(body):08x}"


def md5_base64(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def sha256_base64(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


async def test_put_makes_missing_parents_when_a_file_is_new(http, edge):
    made = await http("PUT", "/a/b/c.nc", data=BODY)
    assert made.status == 201
    assert (edge.root / "a/b/c.nc").read_bytes() == BODY
    again = await http("PUT", "/a/b/c.nc", data=b"other")
    assert again.status == 200
    assert (edge.root / "a/b/c.nc").read_bytes() == b"other"
    assert not list((edge.root / ".twinfra/incoming").iterdir())


async def test_get_gives_what_was_put(http):
    await http("PUT", "/f", data=BODY)
    got = await http("GET", "/f")
    assert (got.status, got.body) == (200, BODY)
    assert got.headers["Content-Length"] == str(len(BODY))
    head = await http("HEAD", "/f")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["ETag"] == got.headers["ETag"]


async def test_chunked_put_is_stored_when_length_is_not_told(http, edge):
    async def pieces():
        for start in range(0, len(BODY), 777):
            yield BODY[start : start + 777]

    assert (await http("PUT", "/f", data=pieces())).status == 201
    assert (edge.root / "f").read_bytes() == BODY


async def test_head_answers_200_when_it_is_a_directory(http):
    assert (await http("HEAD", "/")).status == 200
    assert (await http("HEAD", "")).status == 200
    await http("MKCOL", "/d")
    assert (await http("HEAD", "/d/")).status == 200
    assert (await http("HEAD", "/d")).status == 200
    assert (await http("GET", "/d")).body == b""
    assert (await http("HEAD", "/nothing")).status == 404


async def test_range_gives_a_part_when_it_lies_within(http):
    await http("PUT", "/f", data=BODY)
    for wanted, status, part in (
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=99990-", 206, slice(99990, None)),
        ("bytes=10-1000000", 206, slice(10, None)),
        ("bytes=3-1", 200, slice(None)),
        ("lines=0-3", 200, slice(None)),
    ):
        got = await http("GET", "/f", Range=wanted)
        assert (got.status, got.body) == (status, BODY[part]), wanted


async def test_range_is_416_when_outside(http):
    await http("PUT", "/f", data=b"12345")
    got = await http("GET", "/f", Range="bytes=5-9")
    assert got.status == 416
    assert got.headers["Content-Range"] == "bytes */5"


async def test_many_ranges_come_as_multipart(http):
    await http("PUT", "/f", data=BODY)
    got = await http("GET", "/f", Range="bytes=0-3,100-109,-2")
    assert got.status == 206
    kind, _, boundary = got.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    parts = got.body.split(b"--" + boundary.encode())[1:-1]
    contents = [part.partition(b"\r\n\r\n")[2][:-2] for part in parts]
    assert contents == [BODY[:4], BODY[100:110], BODY[-2:]]
    assert int(got.headers["Content-Length"]) == len(got.body)


async def test_if_range_gives_the_whole_when_the_file_changed(http):
    first = await http("PUT", "/f", data=BODY)
    got = await http("GET", "/f", Range="bytes=0-3", If_Range=first.headers["ETag"])
    assert got.status == 206
    await http("PUT", "/f", data=b"new" + BODY)
    got = await http("GET", "/f", Range="bytes=0-3", If_Range=first.headers["ETag"])
    assert (got.status, got.body) == (200, b"new" + BODY)


async def test_conditions_are_kept(http):
    tag = (await http("PUT", "/f", data=BODY)).headers["ETag"]
    assert (await http("GET", "/f", If_None_Match=tag)).status == 304
    assert (await http("PUT", "/f", data=b"x", If_None_Match="*")).status == 412
    assert (await http("PUT", "/f", data=b"x", If_Match='"other"')).status == 412
    assert (await http("PUT", "/f", data=b"x", If_Match=tag)).status == 200
    assert (await http("DELETE", "/f", If_Match=tag)).status == 412
    assert (await http("GET", "/f")).body == b"x"


async def test_digests_are_told_when_asked(http):
    await http("PUT", "/f", data=BODY)
    for method in ("HEAD", "GET"):
        got = await http(
            method, "/f", Want_Digest="adler32,md5;q=0.5", Want_Repr_Digest="sha-256=1, md5=0"
        )
        assert got.headers["Digest"] == f"adler32={adler32(BODY)},md5={md5_base64(BODY)}"
        assert got.headers["Repr-Digest"] == f"sha-256=:{sha256_base64(BODY)}:"
        assert "Digest" not in (await http(method, "/f")).headers


async def test_digest_is_of_the_file_when_it_was_written_past_the_edge(http, edge):
    (edge.root / "f").write_bytes(BODY)
    got = await http("HEAD", "/f", Want_Digest="adler32")
    assert got.headers["Digest"] == f"adler32={adler32(BODY)}"
    (edge.root / "f").write_bytes(b"other")
    got = await http("HEAD", "/f", Want_Digest="adler32")
    assert got.headers["Digest"] == f"adler32={adler32(b'other')}"


async def test_put_leaves_no_file_when_the_checksum_differs(http, edge):
    for claim in (
        {"Content_MD5": md5_base64(BODY + b"!")},
        {"Digest": f"adler32={adler32(BODY + b'!')}"},
        {"Repr_Digest": f"sha-256=:{sha256_base64(BODY + b'!')}:"},
        {"Digest": "md5=not base64"},
    ):
        refused = await http("PUT", "/d/f", data=BODY, **claim)
        assert refused.status == 400
        assert not (edge.root / "d/f").exists()
    await edge.settle()
    assert await edge.changes() == []


async def test_put_is_accepted_when_the_checksum_is_right(http):
    made = await http(
        "PUT",
        "/f",
        data=BODY,
        Content_MD5=md5_base64(BODY),
        Digest=f"adler32={adler32(BODY).lstrip('0')}",
        Repr_Digest=f"sha-256=:{sha256_base64(BODY)}:",
        Want_Digest="adler32",
    )
    assert made.status == 201
    assert made.headers["Digest"] == f"adler32={adler32(BODY)}"


async def test_put_is_refused_when_it_makes_no_sense(http, edge):
    (edge.root / "d").mkdir()
    (edge.root / "file").write_text("x")
    for path, headers, status in (
        ("/f", {"Content_Range": "bytes 0-3/10"}, 400),
        ("/f", {"Content_Encoding": "gzip"}, 415),
        ("/d", {}, 405),
        ("/d/", {}, 409),
        ("", {}, 405),
        ("/file/below", {}, 409),
    ):
        assert (await http("PUT", path, data=b"x", **headers)).status == status, path


async def test_put_never_mixes_when_many_write_one_name(http, edge):
    bodies = [bytes([65 + i]) * 300_000 for i in range(8)]
    answers = await asyncio.gather(*(http("PUT", "/f", data=body) for body in bodies))
    assert {answer.status for answer in answers} <= {200, 201}
    assert (edge.root / "f").read_bytes() in bodies
    tag = (await http("HEAD", "/f", Want_Digest="adler32")).headers["Digest"]
    assert tag == f"adler32={adler32((edge.root / 'f').read_bytes())}"
    await edge.settle()
    changes = await edge.changes()
    assert changes == [("created", "/f")] + [("modified", "/f")] * 7


async def test_nothing_is_left_when_the_client_breaks_off(edge):
    _, writer = await asyncio.open_connection(
        "localhost", edge.port, ssl=edge.client_tls(), server_hostname="localhost"
    )
    writer.write(
        f"PUT /dav/f HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {edge.token()}\r\n"
        f"Content-Length: 1000000\r\n\r\n".encode()
        + b"x" * 500_000
    )
    await writer.drain()
    writer.transport.abort()
    incoming = edge.root / ".twinfra/incoming"
    for _ in range(100):
        await asyncio.sleep(0.02)
        if not list(incoming.iterdir()):
            break
    assert not list(incoming.iterdir())
    assert not (edge.root / "f").exists()


async def test_mkcol_makes_one_level(http):
    assert (await http("MKCOL", "/a/b")).status == 409
    assert (await http("MKCOL", "/a")).status == 201
    assert (await http("MKCOL", "/a")).status == 405
    assert (await http("MKCOL", "/a/b/")).status == 201
    assert (await http("MKCOL", "/c", data=b"<x/>")).status == 415


async def test_delete_removes_files_and_folders(http, edge):
    await http("PUT", "/a/b/f", data=b"x")
    assert (await http("DELETE", "/a/b/f")).status == 204
    assert (await http("DELETE", "/a/b/f")).status == 404
    await http("PUT", "/a/b/f", data=b"x")
    assert (await http("DELETE", "/a")).status == 204
    assert not (edge.root / "a").exists()
    assert (await http("DELETE", "/")).status == 403


async def test_move_renames_when_destination_is_absolute(http, edge):
    await http("PUT", "/f.upload", data=BODY)
    moved = await http("MOVE", "/f.upload", Destination=f"{edge.dav}/g")
    assert moved.status == 201
    assert (edge.root / "g").read_bytes() == BODY
    await http("PUT", "/h", data=b"h")
    assert (await http("MOVE", "/h", Destination=f"{edge.dav}/g", Overwrite="F")).status == 412
    assert (await http("MOVE", "/h", Destination="/dav/g")).status == 204
    assert (edge.root / "g").read_bytes() == b"h"
    assert (await http("MOVE", "/g", Destination=f"{edge.dav}/no/g")).status == 409
    assert (await http("MOVE", "/g", Destination="https://elsewhere/dav/g")).status == 502
    assert (await http("MOVE", "/g", Destination=f"{edge.dav}/g")).status == 403
    assert (await http("MOVE", "/no", Destination=f"{edge.dav}/x")).status == 404
    assert (await http("MOVE", "/g")).status == 400


async def test_copy_within_the_site_keeps_the_source(http, edge):
    await http("PUT", "/a/f", data=BODY)
    await http("PUT", "/a/b/g", data=b"g")
    assert (await http("COPY", "/a", Destination=f"{edge.dav}/c")).status == 201
    assert (edge.root / "c/f").read_bytes() == BODY
    assert (edge.root / "c/b/g").read_bytes() == b"g"
    assert (await http("COPY", "/a/f", Destination=f"{edge.dav}/c/b/g")).status == 204
    assert (edge.root / "c/b/g").read_bytes() == BODY
    assert (await http("COPY", "/a", Destination=f"{edge.dav}/a/x")).status == 403
    assert (await http("COPY", "/a", Destination=f"{edge.dav}/c", Overwrite="F")).status == 412


async def test_disk_full_is_507_when_the_length_is_told(edge, http):
    await edge.shut()
    await edge.open(min_free_bytes=1 << 60)
    assert (await http("PUT", "/f", data=b"x")).status == 507


async def test_too_big_is_413_when_there_is_a_limit(edge, http):
    await edge.shut()
    await edge.open(max_upload_bytes=1000)
    assert (await http("PUT", "/f", data=b"x" * 1001)).status == 413

    async def pieces():
        for _ in range(100):
            yield b"x" * 100

    assert (await http("PUT", "/f", data=pieces())).status == 413
    assert [item.name for item in edge.root.iterdir()] == [".twinfra"]


async def test_options_tell_the_class_when_nobody_says_who_asks(http, edge):
    for url in (f"{edge.url}/", f"{edge.dav}/x"):
        got = await http("OPTIONS", "", url=url, token="")
        assert (got.status, got.headers["DAV"]) == (200, "1")
        assert "COPY" in got.headers["Allow"]
    assert (await http("LOCK", "/f")).status == 405
    assert (await http("GET", "", url=f"{edge.url}/elsewhere")).status == 404
    assert (await http("POST", "/f", data=b"{}")).status == 405


async def test_health_is_open_and_metrics_want_a_token(http, edge):
    assert (await http("GET", "", url=f"{edge.url}/healthz", token="")).status == 200
    assert (await http("GET", "", url=f"{edge.url}/readyz", token="")).status == 200
    assert (await http("GET", "", url=f"{edge.url}/metrics", token="")).status == 401
    got = await http("GET", "", url=f"{edge.url}/metrics")
    assert got.status == 200
    assert b"twinfra_edge_bytes" in got.body
