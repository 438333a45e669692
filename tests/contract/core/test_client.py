"""The one HTTP client against a server that answers as foreign ones do."""

import asyncio
import socket
import ssl

import pytest
from aiohttp import web

from twinfra.core.errors import (
    Conflict,
    InsufficientCapacity,
    InsufficientScope,
    InvalidRequest,
    NotFound,
    RateLimited,
    SiteRejected,
    Unauthenticated,
    Unavailable,
    UpstreamFault,
    UpstreamTimeout,
)
from twinfra.core.http.client import HttpClient, Reply
from twinfra.core.tls import client_context, server_tls
from twinfra.testkit.ports import free_port

FOREIGN = {
    300: UpstreamFault, 302: UpstreamFault, 400: InvalidRequest, 401: Unauthenticated,
    402: InvalidRequest, 403: InsufficientScope, 404: NotFound, 405: NotFound, 409: Conflict,
    410: NotFound, 412: InvalidRequest, 422: SiteRejected, 429: RateLimited, 500: UpstreamFault,
    501: UpstreamFault, 502: UpstreamFault, 503: Unavailable, 504: UpstreamTimeout,
    507: InsufficientCapacity, 599: UpstreamFault,
}  # fmt: skip


class Foreign:
    """A server whose answers a test chooses."""

    def __init__(self):
        self.seen, self.answers = [], []

    async def handle(self, request):
        self.seen.append(request)
        body = await request.read()
        answer = self.answers.pop(0) if self.answers else None
        if callable(answer):
            return await answer(request)
        return answer or web.json_response({"path": request.path_qs, "body": body.decode()})


async def _listen(foreign, **where):
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", foreign.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.UnixSite(runner, **where) if "path" in where else web.TCPSite(runner, **where)
    await site.start()
    return runner


@pytest.fixture
async def foreign():
    made = Foreign()
    runner = await _listen(made, host="127.0.0.1", port=0)
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(foreign):
    made = HttpClient(foreign.url, timeout_s=10)
    yield made
    await made.close()


@pytest.mark.parametrize("status", sorted(FOREIGN))
async def test_a_foreign_status_is_one_of_our_errors_when_it_was_not_expected(
    client, foreign, status
):
    foreign.answers = [web.Response(status=status, text="their words")]
    with pytest.raises(FOREIGN[status], match=rf"GET /x: {status} their words") as caught:
        await client.request("GET", "/x")
    assert type(caught.value) is FOREIGN[status]
    assert len(foreign.seen) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"detail": "no room"}', "no room"),
        ('{"ExceptionMessage": "no room"}', "no room"),
        ('{"message": "no room"}', "no room"),
        ('{"error": "e", "error_description": "no room"}', "no room"),
        ('["no room"]', '["no room"]'),
        ("<h1>no\n room</h1>", "<h1>no room</h1>"),
        ("x" * 5000, "x" * 255 + "…"),
        ("", ""),
    ],
)
async def test_their_words_are_kept_short_when_they_refuse(client, foreign, text, said):
    foreign.answers = [web.Response(status=409, text=text)]
    with pytest.raises(Conflict) as caught:
        await client.request("GET", "/x")
    assert caught.value.detail == f"GET /x: 409 {said}".strip()


async def test_an_expected_status_is_an_answer_when_it_is_named(client, foreign):
    foreign.answers = [web.Response(status=404, text="{}")]
    reply = await client.request("GET", "/x", expect=(200, 404))
    assert (reply.status, reply.json()) == (404, {})


async def test_the_pause_they_ask_for_is_kept_when_they_are_busy(client, foreign):
    for value, seconds in (("7", 7.0), ("soon", None)):
        foreign.answers = [web.Response(status=503, headers={"Retry-After": value})]
        with pytest.raises(Unavailable) as caught:
            await client.request("GET", "/x")
        assert caught.value.retry_after_s == seconds


async def test_an_answer_is_a_fault_when_it_is_not_json(client, foreign):
    foreign.answers = [web.Response(text="<html>")]
    reply = await client.request("GET", "/x")
    with pytest.raises(UpstreamFault, match="not JSON: <html>"):
        reply.json()
    assert Reply(204, {}, b"").json() is None


async def test_everything_is_sent_when_it_is_given(foreign):
    async def token():
        return "own"

    client = HttpClient(foreign.url + "/", token=token)
    params = {"a": "1 2", "none": None}
    reply = await client.request("POST", "/x", json={"k": 1}, params=params, headers={"X-Y": "z"})
    await client.request("GET", "/x", token="other")
    await client.request("GET", "/x", headers={"Authorization": "Basic abc"})
    await client.request("GET", foreign.url + "/whole")
    await client.close()
    assert reply.json() == {"path": "/x?a=1+2", "body": '{"k": 1}'}
    assert foreign.seen[0].headers["X-Y"] == "z"
    assert [each.headers["Authorization"] for each in foreign.seen] == [
        "Bearer own", "Bearer other", "Basic abc", "Bearer own",
    ]  # fmt: skip
    assert foreign.seen[3].path == "/whole"


async def test_nothing_is_kept_when_a_server_sets_a_cookie(client, foreign):
    foreign.answers = [web.Response(headers={"Set-Cookie": "session=1"})]
    await client.request("GET", "/x")
    await client.request("GET", "/x")
    assert "Cookie" not in foreign.seen[1].headers


async def test_a_redirect_is_not_followed_when_a_server_sends_one(client, foreign):
    foreign.answers = [web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})]
    reply = await client.request("GET", "/x", expect=(307,))
    assert reply.headers["Location"] == "http://127.0.0.1:1/"


async def test_it_tries_again_within_bounds_when_the_request_may_be_repeated(client, foreign):
    foreign.answers = [web.Response(status=503) for _ in range(2)]
    assert (await client.request("GET", "/x", retry=True)).status == 200
    assert len(foreign.seen) == 3
    foreign.answers = [web.Response(status=503) for _ in range(9)]
    with pytest.raises(Unavailable):
        await client.request("GET", "/x", retry=True)
    assert len(foreign.seen) == 3 + 4


async def test_it_never_tries_again_when_repeating_would_not_help(client, foreign):
    foreign.answers = [web.Response(status=409)]
    with pytest.raises(Conflict):
        await client.request("GET", "/x", retry=True)
    assert len(foreign.seen) == 1


async def test_it_is_a_timeout_when_no_answer_comes(client, foreign):
    async def silent(_request):
        await asyncio.sleep(60)

    foreign.answers = [silent]
    with pytest.raises(UpstreamTimeout, match="did not answer in time"):
        await client.request("GET", "/x", timeout_s=0.2, retry=True)
    assert len(foreign.seen) == 1


async def test_nobody_is_there_when_the_port_is_shut():
    client = HttpClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match=r"GET http://127\.0\.0\.1"):
        await client.request("GET", "/x")
    await client.close()


async def test_it_is_not_available_when_the_connection_breaks_off(client, foreign):
    async def broken(request):
        answer = web.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"half")
        request.transport.abort()
        return answer

    foreign.answers = [broken]
    with pytest.raises(Unavailable):
        await client.request("GET", "/x")


async def test_it_is_not_available_when_no_http_is_spoken():
    async def gibberish(_reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(gibberish, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HttpClient(f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable):
        await client.request("GET", "/x")
    await client.close()
    server.close()


async def test_a_stream_comes_in_parts_when_it_is_read_so(client, foreign):
    async def slow(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        for part in (b"one\n", b"two\n"):
            await answer.write(part)
        return answer

    foreign.answers = [slow]
    async with client.stream("GET", "/x") as answer:
        assert [line async for line in answer.content] == [b"one\n", b"two\n"]


async def test_a_socket_file_is_used_when_one_is_named(tmp_path):
    made = Foreign()
    runner = await _listen(made, path=str(tmp_path / "s"))
    client = HttpClient("http://localhost", uds=str(tmp_path / "s"))
    assert (await client.request("GET", "/x")).json()["path"] == "/x"
    await client.close()
    await runner.cleanup()


async def test_a_certificate_is_checked_when_the_server_speaks_tls(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    made = Foreign()
    runner = await _listen(made, host="127.0.0.1", port=0, ssl_context=server_tls(ours).context())
    port = runner.addresses[0][1]
    trusting = HttpClient(f"https://localhost:{port}", tls=client_context(ours / "ca.pem"))
    assert (await trusting.request("GET", "/x")).status == 200
    server_tls(theirs)
    strangers = HttpClient(f"https://localhost:{port}", tls=client_context(theirs / "ca.pem"))
    with pytest.raises(Unavailable, match="certificate"):
        await strangers.request("GET", "/x")
    for client in (trusting, strangers):
        await client.close()
    await runner.cleanup()


async def test_old_tls_is_refused_when_a_client_offers_nothing_better(tmp_path):
    files = server_tls(tmp_path)
    made = Foreign()
    runner = await _listen(made, host="127.0.0.1", port=0, ssl_context=files.context())
    old = client_context(files.cafile)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1

    def shake():
        with (
            socket.create_connection(("127.0.0.1", runner.addresses[0][1])) as plain,
            old.wrap_socket(plain, server_hostname="localhost"),
        ):
            pass

    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(shake)
    await runner.cleanup()


async def test_what_is_said_of_single_fields_comes_along_and_is_bounded(client, foreign):
    entries = [
        {"line": 6, "detail": "no\n such type", "deep": {"x": 1}},
        "junk",
        {"detail": "x" * 999},
    ]
    foreign.answers = [web.json_response({"message": "wrong", "errors": entries * 100}, status=400)]
    with pytest.raises(InvalidRequest) as caught:
        await client.request("POST", "/x")
    first, second, *rest = caught.value.errors
    assert first == {"line": 6, "detail": "no such type"}
    assert len(second["detail"]) == 256
    assert len(rest) < 100
    for body in ({"errors": 5}, {"errors": {"a": 1}}, [1], None):
        foreign.answers = [web.json_response(body, status=400)]
        with pytest.raises(InvalidRequest) as caught:
            await client.request("POST", "/x")
        assert caught.value.errors == ()


@pytest.mark.parametrize(
    ("said", "after_s"), [("7", 7.0), ("99999999999", 3600.0), ("\u00b2", None), ("soon", None)]
)
async def test_a_foreign_wish_for_time_is_bounded(client, foreign, said, after_s):
    foreign.answers = [web.Response(status=503, headers={"Retry-After": said})]
    with pytest.raises(Unavailable) as caught:
        await client.request("GET", "/x")
    assert caught.value.retry_after_s == after_s
