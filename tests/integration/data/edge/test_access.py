"""Who may do what: tokens, scopes and paths; every trick with a path fails."""

import asyncio

from twinfra.testkit.edges import EdgeUnderTest


async def test_answer_is_401_with_a_challenge_when_there_is_no_token(http):
    got = await http("GET", "/f", token="")
    assert got.status == 401
    assert got.headers["WWW-Authenticate"].startswith("Bearer")


async def test_answer_is_401_with_the_reason_when_the_token_is_bad(http, edge):
    scope = {"scope": "storage.read:/ storage.modify:/"}
    tokens = {
        "expired": edge.issuer.expired(aud=edge.url, **scope),
        "audience": edge.issuer.token(aud="https://elsewhere", **scope),
        "signature": edge.issuer.forged(aud=edge.url, **scope),
        "well-formed": "nonsense",
    }
    for reason, token in tokens.items():
        got = await http("PUT", "/f", token=token, data=b"x")
        assert got.status == 401
        assert 'error="invalid_token"' in got.headers["WWW-Authenticate"]
        assert reason in got.text
    assert not (edge.root / "f").exists()


async def test_scopes_bound_what_a_token_may_do(http, edge):
    (edge.root / "a/out").mkdir(parents=True)
    (edge.root / "a/outlaw").mkdir()
    (edge.root / "a/x").write_text("x")
    (edge.root / "b").write_text("b")
    token = edge.token("storage.read:/a storage.create:/a/out")

    async def status(method, path, **more):
        return (await http(method, path, token=token, **more)).status

    assert await status("GET", "/a/x") == 200
    assert await status("PUT", "/a/out/new", data=b"1") == 201
    assert await status("PUT", "/a/out/new", data=b"2") == 403
    assert (edge.root / "a/out/new").read_text() == "1"
    assert await status("DELETE", "/a/out/new") == 403
    assert await status("PUT", "/a/outlaw/new", data=b"1") == 403
    assert await status("PUT", "/a/x", data=b"1") == 403
    assert await status("GET", "/b") == 403
    assert await status("MKCOL", "/a/out/dir") == 201
    assert await status("MKCOL", "/c") == 403
    assert await status("PROPFIND", "/a", Depth="1") == 207
    assert await status("PROPFIND", "/", Depth="0") == 207
    assert await status("PROPFIND", "/", Depth="1") == 403
    assert await status("MOVE", "/a/out/new", Destination=f"{edge.dav}/a/out/newer") == 201
    assert await status("MOVE", "/a/out/newer", Destination=f"{edge.dav}/a/newer") == 403


async def test_upload_may_make_the_folders_on_the_way_to_its_scope(http, edge):
    token = edge.token("storage.create:/deep/down/here")
    assert (await http("MKCOL", "/deep", token=token)).status == 201
    assert (await http("PUT", "/deep/down/here/f", token=token, data=b"x")).status == 201
    assert (await http("PUT", "/deep/f", token=token, data=b"x")).status == 403


ESCAPES = {
    "/a/../b": {403},
    "/a/%2e%2e/b": {403},
    "/..%2f..%2fetc/passwd": {400},
    "/%2e%2e/%2e%2e/etc/passwd": {403},
    "/a%00b": {400},
    "/%ff%fe": {400},
    "/link/secret": {404, 409},
    "/file-link": {404},
    "/.twinfra/lock": {403, 404},
    "/./b": {403},
    "/b#": {400},
}


async def test_no_path_leads_out_of_the_root(edge):
    outside = _plant(edge)
    for path, statuses in ESCAPES.items():
        for method in ("GET", "HEAD", "PROPFIND", "DELETE", "MKCOL"):
            status, body = await raw(edge, method, path)
            assert status in statuses | ({405, 409} if method == "MKCOL" else set()), (method, path)
            assert b"secret" not in body
    assert (outside / "secret").read_text() == "secret"


async def test_no_upload_leads_out_of_the_root(edge):
    outside = _plant(edge)
    for path in ("/link/new", "/file-link", "/.twinfra/new", "/../new", "/%2e%2e/new"):
        await raw(edge, "PUT", path, b"changed")
    assert sorted(item.name for item in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert not (edge.folder / "new").exists()


def _plant(edge):
    """Put links to a secret outside into the edge's folder."""
    outside = edge.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (edge.root / "b").write_text("b")
    (edge.root / "link").symlink_to(outside)
    (edge.root / "file-link").symlink_to(outside / "secret")
    return outside


async def raw(edge: EdgeUnderTest, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send a path that no client library would leave alone."""
    reader, writer = await asyncio.open_connection(
        "localhost", edge.port, ssl=edge.client_tls(), server_hostname="localhost"
    )
    writer.write(
        f"{method} /dav{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nDepth: "
        f"{'infinity' if method == 'DELETE' else '0'}\r\n"
        f"Authorization: Bearer {edge.token()}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    answer = await reader.read()
    writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), content
