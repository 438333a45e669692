"""The Kubernetes client against a toy API server that misbehaves as real ones do."""

import asyncio
import json

import pytest
from aiohttp import web

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.config import Access, Credential, from_kubeconfig
from twinfra.compute.kubelet.kube.errors import AlreadyExists, Gone, Invalid
from twinfra.compute.kubelet.kube.model import Change, Patch, Thing
from twinfra.compute.kubelet.kube.reflector import Reflector, Synced
from twinfra.compute.kubelet.kube.resources import LEASES, NODES, PODS
from twinfra.compute.kubelet.kube.transport import event_of
from twinfra.compute.kubelet.model.seen import SeenPod
from twinfra.compute.kubelet.placement.objects import GatedPod
from twinfra.core.errors import (
    InsufficientScope,
    InvalidRequest,
    NotFound,
    TwinfraError,
    Unavailable,
)
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for


def thing(name, version):
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


class ToyServer:
    """Answers from a script: lists and watches in turn; remembers what was asked."""

    def __init__(self):
        self.asked, self.lists, self.watches, self.answer = [], [], [], None

    async def handle(self, request):
        self.asked.append(
            (request.method, request.path, dict(request.query), dict(request.headers))
        )
        if self.answer is not None:
            status, body, headers = self.answer
            return web.Response(status=status, text=json.dumps(body), headers=headers)
        if request.query.get("watch"):
            return await self.watch(request)
        version, items, more = self.lists.pop(0)
        meta = {"resourceVersion": str(version), "continue": more}
        return web.json_response({"metadata": meta, "items": items})

    async def watch(self, request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in self.watches.pop(0) if self.watches else ():
            await answer.write(piece)
        if not self.watches:
            await asyncio.sleep(3600)
        request.transport.close()
        return answer


@pytest.fixture
async def toy():
    made = ToyServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = "http://127.0.0.1:" + str(runner.addresses[0][1])
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(toy):
    made = KubeClient(Access(toy.url, None, Credential("secret")))
    yield made
    await made.close()


def line(change, body):
    return json.dumps({"type": change, "object": body}).encode() + b"\n"


async def follow(client, toy, until):
    """Read a reflector until enough was told."""
    reflector = Reflector(client, PODS, Thing, fields="spec.nodeName=a", clock=QuickClock())
    seen = []

    async def read():
        async for told in reflector.follow():
            seen.append(told)  # noqa: PERF401 - read while it grows

    task = asyncio.create_task(read())
    try:
        await wait_for(lambda: until(seen), what="what the reflector tells")
    finally:
        task.cancel()
    return seen


class QuickClock(VirtualClock):
    """Does not make a test wait."""

    async def sleep(self, seconds):
        await asyncio.sleep(0)


def names(seen):
    return [
        ("synced", sorted(told.uids))
        if isinstance(told, Synced)
        else (told.change, told.object.metadata.name)
        for told in seen
    ]


@pytest.mark.story("Watch cut, also in mid-line: nothing is lost, nothing is told twice as new")
async def test_goes_on_from_the_last_version_when_the_watch_is_cut_in_mid_line(client, toy):
    toy.lists = [(7, [thing("a", 5)], "")]
    half = line("ADDED", thing("c", 9))
    toy.watches = [
        [line("ADDED", thing("b", 8)), half[: len(half) // 2]],
        [half, line("BOOKMARK", thing("", 12))],
        [line("DELETED", thing("a", 13))],
    ]
    seen = await follow(client, toy, lambda seen: len(seen) == 5)
    assert names(seen) == [
        (Change.ADDED, "a"), ("synced", ["uid-a"]), (Change.ADDED, "b"), (Change.ADDED, "c"),
        (Change.DELETED, "a"),
    ]  # fmt: skip
    versions = [query["resourceVersion"] for _, _, query, _ in toy.asked if "watch" in query]
    assert versions == ["7", "8", "12"]


@pytest.mark.parametrize("kind", [Thing, SeenPod, GatedPod])
def test_a_bookmark_is_read_as_an_api_server_writes_it(kind):
    empty = {"spec": {"containers": None}, "status": {}}
    metadata = {"resourceVersion": "12", "creationTimestamp": None}
    body = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, **empty}
    told = event_of(line("BOOKMARK", body), kind)
    assert told.change is Change.BOOKMARK
    assert told.object.metadata.resource_version == "12"


@pytest.mark.story("410 Gone: all is listed anew, what vanished is known by the list")
@pytest.mark.parametrize("in_stream", [True, False])
async def test_lists_anew_when_the_version_is_gone(client, toy, in_stream):
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    toy.lists = [(7, [thing("a", 5)], ""), (20, [thing("b", 18)], "")]
    toy.watches = [[line("ERROR", gone)], []]
    seen = await follow(client, toy, lambda seen: len(seen) == 4)
    assert names(seen)[2:] == [(Change.ADDED, "b"), ("synced", ["uid-b"])]


@pytest.mark.story("A line of garbage in the watch: the watch begins again")
async def test_goes_on_when_a_line_is_garbage(client, toy):
    toy.lists = [(7, [], "")]
    toy.watches = [[b"<html>bad gateway</html>\n"], [line("ADDED", thing("a", 8))]]
    seen = await follow(client, toy, lambda seen: len(seen) == 2)
    assert names(seen) == [("synced", []), (Change.ADDED, "a")]


async def test_reads_all_pages_when_a_list_is_long(client, toy):
    toy.lists = [(7, [thing("a", 5)], "more"), (7, [thing("b", 5)], "")]
    found = await client.list(PODS, "ml", kind=Thing)
    assert [item.metadata.name for item in found.items] == ["a", "b"]
    assert toy.asked[1][2]["continue"] == "more"
    assert toy.asked[0][1] == "/api/v1/namespaces/ml/pods"


@pytest.mark.parametrize(
    ("status", "reason", "leaf"),
    [
        (404, "NotFound", NotFound),
        (403, "Forbidden", InsufficientScope),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (418, "", InvalidRequest),
    ],
)
async def test_raises_the_leaf_that_fits_when_refused(client, toy, status, reason, leaf):
    body = {"kind": "Status", "code": status, "reason": reason, "message": "because"}
    toy.answer = (status, body, {"Retry-After": "3"})
    with pytest.raises(leaf, match="because") as caught:
        await client.get(NODES, "a", kind=Thing)
    assert caught.value.retry_after_s == 3


async def test_is_unavailable_when_nobody_listens():
    client = KubeClient(Access("http://127.0.0.1:9", None))
    with pytest.raises(Unavailable):
        await client.get(NODES, "a", kind=Thing)
    await client.close()


async def test_sends_token_and_patch_type_when_it_patches(client, toy):
    toy.answer = (200, thing("a", 1), {})
    await client.patch(PODS, "a", {"x": 1}, "ml", kind=Thing, how=Patch.STRATEGIC, sub="status")
    method, path, _, headers = toy.asked[0]
    assert (method, path) == ("PATCH", "/api/v1/namespaces/ml/pods/a/status")
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/strategic-merge-patch+json"
    assert LEASES.path("a", "ns") == "/apis/coordination.k8s.io/v1/namespaces/ns/leases/a"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: [", "current-context: x", "clusters: 3\ncontexts: 4\nusers: 5\n"],
)
def test_refuses_a_file_when_it_is_no_kubeconfig(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(TwinfraError):
        from_kubeconfig(path)


def test_reads_a_renewed_token_when_it_is_in_a_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("one\n")
    credential = Credential(token_file=path)
    assert credential.bearer() == "one"
