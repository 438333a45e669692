"""Other people's clients against the edge: curl, davix, gfal2, rclone, litmus."""

import asyncio
import json
import os
import zlib

import pytest

from twinfra.testkit.waiting import wait_for

BODY = os.urandom(2_500_000)


@pytest.mark.real("curl")
@pytest.mark.story("`curl -N` reads the edge's events")
async def test_curl_reads_events_while_it_puts(edge, strangers):
    token = edge.token()
    common = ["curl", "-sS", "--cacert", edge.tls.cafile, "-H", f"Authorization: Bearer {token}"]
    api = f"{edge.url}/api/v1/events"
    made = await strangers.run(*common, "-i", "-X", "POST", f"{api}/channels")
    channel = made.out.partition("Location: ")[2].split()[0]
    selector = json.dumps({"path": "/", "recursive": True, "flags": ["IN_CLOSE_WRITE"]})
    await strangers.run(
        *common, "-H", "Content-Type: application/json", "-d", selector,
        f"{channel}/subscriptions/inotify",
    )  # fmt: skip
    log = strangers.folder / "events"
    with log.open("wb") as out:
        reader = await asyncio.create_subprocess_exec(
            *map(str, [*common, "-N", "-H", "Accept: text/event-stream", channel]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
        )
    try:
        await wait_for(lambda: log.stat().st_size > 0, timeout_s=10, what="the stream")
        source = strangers.folder / "f"
        source.write_bytes(BODY)
        put = await strangers.run(*common, "-T", source, f"{edge.dav}/incoming/scenarios/f")
        assert put.code == 0, put.err
        await wait_for(lambda: b"event: inotify" in log.read_bytes(), timeout_s=5, what="the event")
    finally:
        reader.kill()
        await reader.wait()
    lines = log.read_text().splitlines()
    data = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
    assert data["storage"]["path"] == "/incoming/scenarios/f"
    assert data["storage"]["adler32"] == f"{zlib.adler32(BODY):08x}"
    assert any(line.startswith("id: ") for line in lines)


@pytest.mark.real("curl")
async def test_curl_orders_a_pull(pair, strangers):
    left, right = pair
    (left.root / "f").write_bytes(BODY)
    got = await strangers.run(
        "curl", "-sS", "--cacert", left.tls.cafile, "-X", "COPY",
        "-H", f"Source: {left.dav}/f",
        "-H", f"Authorization: Bearer {right.token()}",
        "-H", f"TransferHeaderAuthorization: Bearer {left.token()}",
        f"{right.dav}/d/f",
    )  # fmt: skip
    assert got.out.rstrip().endswith("success: Created"), got
    assert (right.root / "d/f").read_bytes() == BODY


@pytest.mark.real("davix")
async def test_davix_does_what_it_can(pair, strangers):
    left, right = pair
    both = left.issuer.token(aud=[left.url, right.url], scope="storage.read:/ storage.modify:/")
    one = ["-H", f"Authorization: Bearer {both}", "--capath", strangers.certs]
    source = strangers.folder / "f"
    source.write_bytes(BODY)
    davs = left.dav.replace("https", "davs")
    put = await strangers.run("davix-put", *one, source, f"{davs}/d/f")
    assert put.code == 0, put
    assert (left.root / "d/f").read_bytes() == BODY
    listed = await strangers.run("davix-ls", *one, "-l", f"{davs}/d/")
    assert listed.out.split()[-1] == "f", listed
    assert str(len(BODY)) in listed.out
    copied = await strangers.run(
        "davix-cp", *one, "-H", f"TransferHeaderAuthorization: Bearer {both}",
        f"{davs}/d/f", f"{right.dav.replace('https', 'davs')}/e/f",
    )  # fmt: skip
    assert copied.code == 0, copied
    assert (right.root / "e/f").read_bytes() == BODY
    moved = await strangers.run("davix-mv", *one, f"{davs}/d/f", f"{davs}/d/g")
    assert not moved.err, moved  # davix-mv 0.8.4 exits with 255 whatever the server says
    assert (left.root / "d/g").exists()
    back = strangers.folder / "back"
    got = await strangers.run("davix-get", *one, f"{davs}/d/g", back)
    assert got.code == 0, got
    assert back.read_bytes() == BODY
    removed = await strangers.run("davix-rm", *one, f"{davs}/d/g")
    assert removed.code == 0, removed
    assert not (left.root / "d/g").exists()


@pytest.mark.real("gfal2")
@pytest.mark.story("gfal-copy or davix copies edge to edge")
@pytest.mark.parametrize("mode", ["pull", "push", "streamed"])
async def test_gfal_copies_edge_to_edge_with_checksums(pair, strangers, mode):
    left, right = pair
    both = left.issuer.token(aud=[left.url, right.url], scope="storage.read:/ storage.modify:/")
    (left.root / "f").write_bytes(BODY)
    copied = await strangers.run(
        "gfal-copy", "-p", "-K", "adler32", "--copy-mode", mode,
        f"{left.dav}/f", f"{right.dav.replace('https', 'davs')}/deep/er/f",
        token=both,
    )  # fmt: skip
    assert copied.code == 0, copied
    assert (right.root / "deep/er/f").read_bytes() == BODY
    summed = await strangers.run("gfal-sum", f"{right.dav}/deep/er/f", "ADLER32", token=both)
    assert summed.out.split()[-1] == f"{zlib.adler32(BODY):08x}", summed
    listed = await strangers.run("gfal-ls", "-l", f"{right.dav}/deep/er", token=both)
    assert str(len(BODY)) in listed.out, listed


@pytest.mark.real("gfal2")
async def test_gfal_tends_a_namespace(edge, strangers):
    token = edge.token()
    source = strangers.folder / "f"
    source.write_bytes(BODY)
    for argv in (
        ["gfal-mkdir", "-p", f"{edge.dav}/a/b/c"],
        ["gfal-copy", "-K", "adler32", f"file://{source}", f"{edge.dav}/a/b/c/f"],
        ["gfal-copy", "-f", f"file://{source}", f"{edge.dav}/a/b/c/f"],
        ["gfal-rename", f"{edge.dav}/a/b/c/f", f"{edge.dav}/a/b/c/g"],
    ):
        done = await strangers.run(*argv, token=token)
        assert done.code == 0, done
    assert (edge.root / "a/b/c/g").read_bytes() == BODY
    for argv in (["gfal-rm", f"{edge.dav}/a/b/c/g"], ["gfal-rm", "-r", f"{edge.dav}/a"]):
        done = await strangers.run(*argv, token=token)
        assert done.code == 0, done
    assert not (edge.root / "a").exists()


@pytest.mark.real("rclone")
async def test_rclone_copies_checks_moves_and_purges(edge, strangers):
    tree = strangers.folder / "tree"
    for name in ("one", "deep/two", "deep/er/thr ee & 4"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(os.urandom(70_000))
    remote = f":webdav,url='{edge.dav}',bearer_token='{edge.token()}':"
    rclone = ["rclone", "--config", "/dev/null", "--ca-cert", edge.tls.cafile]

    async def run(*argv) -> None:
        done = await strangers.run(*rclone, *argv)
        assert done.code == 0, done

    await run("copy", tree, f"{remote}tree")
    assert (edge.root / "tree/deep/er/thr ee & 4").read_bytes() == (
        tree / "deep/er/thr ee & 4"
    ).read_bytes()
    await run("check", "--download", tree, f"{remote}tree")
    await run("moveto", f"{remote}tree/one", f"{remote}tree/uno")
    assert (edge.root / "tree/uno").exists()
    await run("purge", f"{remote}tree")
    assert not (edge.root / "tree").exists()


@pytest.mark.real("litmus")
async def test_litmus_finds_nothing_wrong(edge, strangers):
    """litmus speaks no bearer tokens and trusts no authority of ours: a proxy adds the token."""
    done = {}
    async with with_token(edge) as url:
        for suite in ("basic", "copymove"):
            done[suite] = await strangers.run(
                "env", f"TESTS={suite}", "litmus", "-k", url, timeout_s=100
            )
    for suite, ran in done.items():
        assert f"summary for `{suite}'" in ran.out, ran
        wrong = {line for line in ran.out.splitlines() if "FAIL" in line}
        assert not wrong, ran.out


class with_token:  # noqa: N801 - reads as a phrase where it is used
    """A plain TCP server that adds a token to each request and passes it on."""

    def __init__(self, edge):
        self.edge = edge

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.port = port
        return f"http://localhost:{port}/dav/"

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        ours, theirs = await asyncio.open_connection(
            "localhost", self.edge.port, ssl=self.edge.client_tls(), server_hostname="localhost"
        )
        token = f"Authorization: Bearer {self.edge.token()}\r\n".encode()

        async def there() -> None:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, fields = head.partition(b"\r\n")
                theirs.write(line + b"\r\n" + token + fields)
                length = 0
                for field in fields.split(b"\r\n"):
                    name, _, value = field.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                if length:
                    theirs.write(await reader.readexactly(length))

        async def back() -> None:
            while block := await ours.read(65536):
                writer.write(block)

        tasks = [asyncio.create_task(there()), asyncio.create_task(back())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        theirs.close()
        writer.close()
