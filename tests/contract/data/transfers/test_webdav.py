"""What storages answer, and what the adapter makes of it."""

import asyncio

import pytest

from twinfra.data.transfers.model.faults import Scope, TransferFault
from twinfra.data.transfers.ports import CopyOrder
from twinfra.testkit.ports import free_port
from twinfra.testkit.waiting import wait_for


def order(url, **more):
    facts = {
        "source_url": "davs://source.test:1/dav/a", "dest_url": f"{url}/dav/b",
        "source_token": "src", "dest_token": "dst", "overwrite": False, "limit_s": 5.0,
        "client_info": "job-id=j;file-id=1;retry=0",
    }  # fmt: skip
    return CopyOrder(**{**facts, **more})


async def told(storage, copy):
    seen = []

    async def progress(count):
        seen.append(count)

    await storage.copy(copy, progress)
    return seen


async def test_a_head_gives_size_and_digests_in_hexadecimal(server, storage):
    server.answers(
        "HEAD", headers={"Digest": "adler32=5AE07809,md5=XUFAKrxLKna5cZ2REBfFkg==", "X": "y"},
        body=b"hello",
    )  # fmt: skip
    facts = await storage.stat(f"{server.url}/dav/a", "t", "adler32", scope=Scope.SOURCE)
    assert facts.size_bytes == 5
    assert facts.digests == {"adler32": "5ae07809", "md5": "5d41402abc4b2a76b9719d911017c592"}
    _, path, headers = server.asked[0]
    assert (path, headers["Authorization"], headers["Want-Digest"]) == (
        "/dav/a", "Bearer t", "adler32",
    )  # fmt: skip


async def test_a_file_that_is_not_there_is_none_and_not_an_error(server, storage):
    server.answers("HEAD", 404)
    assert await storage.stat(f"{server.url}/x", None, "adler32", scope=Scope.SOURCE) is None


@pytest.mark.parametrize(
    ("status", "errno", "retryable"),
    [(401, 13, False), (403, 13, False), (500, 5, True), (503, 5, True), (507, 28, False)],
)
async def test_other_answers_are_faults_of_their_class(server, storage, status, errno, retryable):
    server.answers("HEAD", status)
    with pytest.raises(TransferFault) as caught:
        await storage.stat(f"{server.url}/x", None, "adler32", scope=Scope.DESTINATION)
    fault = caught.value.fault
    assert (fault.scope, fault.errno, fault.retryable) == ("DESTINATION", errno, retryable)


async def test_a_storage_that_nobody_runs_may_come_back(storage):
    with pytest.raises(TransferFault) as caught:
        await storage.stat(
            f"https://localhost:{free_port()}/x", None, "adler32", scope=Scope.SOURCE
        )
    assert caught.value.fault.retryable


async def test_a_copy_is_ordered_with_both_tokens_and_followed_to_its_end(server, storage, marker):
    server.streams(marker(10), marker(5, 1), marker(40), "success: Created\n")
    assert await told(storage, order(server.url, overwrite=True)) == [10, 15, 45]
    method, path, headers = server.asked[0]
    assert (method, path) == ("COPY", "/dav/b")
    assert headers["Source"] == "https://source.test:1/dav/a"
    assert headers["Authorization"] == "Bearer dst"
    assert headers["TransferHeaderAuthorization"] == "Bearer src"
    assert (headers["Overwrite"], headers["Credential"]) == ("T", "none")
    assert headers["ClientInfo"] == "job-id=j;file-id=1;retry=0"


@pytest.mark.parametrize(
    ("line", "errno", "retryable"),
    [
        ("failure: Remote side failed with status code 403; message", 13, False),
        ("failure: rejected GET: 404 Not Found", 2, False),
        ("failure: connection to source timed out", 110, True),
        ("failure: checksum mismatch", 5, False),
        ("failure: something odd", 5, True),
        ("aborted: No space left on device", 28, False),
    ],
)
async def test_the_last_line_is_the_truth_whatever_the_status(
    server, storage, marker, line, errno, retryable
):
    server.streams(marker(10), line + "\n", status=201)
    with pytest.raises(TransferFault) as caught:
        await told(storage, order(server.url))
    assert (caught.value.fault.errno, caught.value.fault.retryable) == (errno, retryable)


async def test_a_copy_that_ends_without_a_word_has_failed(server, storage, marker):
    server.streams(marker(10))
    with pytest.raises(TransferFault, match="without a word"):
        await told(storage, order(server.url))


async def test_a_copy_without_markers_for_too_long_has_stalled(server, storage, marker):
    server.streams(marker(10), then_hang=True)
    with pytest.raises(TransferFault, match="no performance marker") as caught:
        await told(storage, order(server.url))
    assert caught.value.fault.retryable
    await asyncio.wait_for(server.dropped.wait(), 5)


async def test_a_copy_is_given_up_at_its_limit(server, storage, marker):
    server.streams(*[marker(n) for n in range(99)], pause_s=0.1)
    with pytest.raises(TransferFault, match="longer than"):
        await told(storage, order(server.url, limit_s=0.4))


async def test_a_copy_that_is_called_off_drops_the_request(server, storage, marker):
    server.streams(marker(10), then_hang=True)
    copy = asyncio.create_task(told(storage, order(server.url)))
    await wait_for(lambda: server.asked)
    copy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copy
    await asyncio.wait_for(server.dropped.wait(), 5)


@pytest.mark.parametrize(("status", "scope"), [(403, "DESTINATION"), (412, "DESTINATION"),
                                               (500, "TRANSFER")])  # fmt: skip
async def test_a_copy_refused_at_once_says_where(server, storage, status, scope):
    server.answers("COPY", status, b"no")
    with pytest.raises(TransferFault) as caught:
        await told(storage, order(server.url))
    assert caught.value.fault.scope == scope


async def test_a_redirect_is_followed_with_all_headers_but_only_to_peers(server, storage, peers):
    async def elsewhere(request):
        from aiohttp import web

        if request.path == "/dav/b":
            return web.Response(status=307, headers={"Location": "/pool/b"})
        return web.Response(status=201, body=b"success: Created\n")

    server.handlers["COPY"] = elsewhere
    await told(storage, order(server.url))
    assert [path for _, path, _ in server.asked] == ["/dav/b", "/pool/b"]
    assert server.asked[1][2]["TransferHeaderAuthorization"] == "Bearer src"
    peers.verdict = lambda url: "/pool/" not in url
    with pytest.raises(TransferFault, match="not a registered storage"):
        await told(storage, order(server.url))


@pytest.mark.parametrize(("verdict", "retryable"), [(False, False), (None, True)])
async def test_nothing_is_called_that_is_not_registered(server, storage, peers, verdict, retryable):
    peers.verdict = verdict
    for ask in (
        storage.stat(f"{server.url}/a", "t", "adler32", scope=Scope.SOURCE),
        told(storage, order(server.url)),
        storage.delete(f"{server.url}/a", "t"),
    ):
        with pytest.raises(TransferFault) as caught:
            await ask
        assert caught.value.fault.retryable is retryable
    assert server.asked == []


async def test_deleting_what_is_gone_is_fine_and_a_refusal_is_not(server, storage):
    server.answers("DELETE", 404)
    await storage.delete(f"{server.url}/a", "t")
    server.answers("DELETE", 403)
    with pytest.raises(TransferFault, match="Permission denied"):
        await storage.delete(f"{server.url}/a", "t")
