"""The hop from kubelets: curl's bytes in, a stranger's plug-in behind, the research page's numbers.

The numbers are the acceptance behaviours of the interLink research page, section 8.
"""

import asyncio
import json
import time

import pytest
from aiohttp import web

from twinfra.compute.interlink.wiring import build_api

SITE = "hpc-b"
UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "train-0",
        "namespace": "ml",
        "uid": UID,
        "annotations": {"slurm-job.vk.io/flags": "--time=00:10:00 -p gpu"},
    },
    "spec": {
        "nodeName": "hpc-a",
        "restartPolicy": "Never",
        "volumes": [
            {"name": "cfg", "configMap": {"name": "train-cfg", "defaultMode": 420}},
            {"name": "tok", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ],
        "initContainers": [{"name": "prepare", "image": "busybox"}],
        "containers": [
            {
                "name": "main",
                "image": "python:3.12",
                "command": ["python"],
                "args": ["-c", "print(1)"],
                "volumeMounts": [
                    {"name": "cfg", "mountPath": "/cfg"},
                    {"name": "tok", "mountPath": "/var/run/secrets", "readOnly": True},
                ],
            }
        ],
    },
    "status": {},
}
CREATE = {
    "pod": POD,
    "configmaps": [
        {"metadata": {"name": "train-cfg", "namespace": "ml"}, "data": {"a.ini": "x=1\n"}},
        {"metadata": {"name": "other", "namespace": "ml"}, "data": {"b": "unmounted"}},
    ],
    "secrets": None,
    "projectedvolumesmaps": [{"metadata": {"name": "tok"}, "data": {"token": "eyJ..."}}],
    "jobscriptURL": "",
}
RUNNING = {
    "name": "train-0",
    "UID": UID,
    "namespace": "ml",
    "JID": "48213",
    "containers": [
        {
            "name": "main",
            "state": {"running": {"startedAt": "2026-07-20T10:00:00Z"}},
            "lastState": {},
            "ready": True,
            "restartCount": 0,
            "image": "python:3.12",
            "imageID": "",
        }
    ],
    "initContainers": None,
}
LOGS = {
    "Namespace": "ml",
    "PodUID": UID,
    "PodName": "train-0",
    "ContainerName": "main",
    "Opts": {
        "Tail": 0,
        "Bytes": 0,
        "Timestamps": False,
        "Follow": False,
        "Previous": False,
        "SinceSeconds": 0,
        "SinceTime": "0001-01-01T00:00:00Z",
    },
}


class Stranger:
    """A plug-in of somebody else: records what it gets, answers what it was told."""

    def __init__(self):
        self.seen = []
        self.answers = {
            "/create": (200, json.dumps({"PodUID": UID, "PodJID": "48213"}).encode()),
            "/delete": (200, b"deleted"),
            "/status": (200, b"[]"),
            "/getLogs": (200, b"line 1\nline 2\n"),
        }

    async def handle(self, request):
        body = await request.read()
        self.seen.append((request.method, request.path, body, dict(request.headers)))
        status, answer = self.answers[request.path]
        return web.Response(status=status, body=answer)

    def calls(self, path):
        return [call for call in self.seen if call[1] == path]


@pytest.fixture
async def stranger():
    made = Stranger()
    app = web.Application()
    app.router.add_route("*", "/{any}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = site._server.sockets[0].getsockname()[1]
    made.stop = runner.cleanup
    yield made
    await runner.cleanup()


@pytest.fixture
def legacy():
    return False


@pytest.fixture
async def api(context, issuer, serving, stranger, legacy):
    """Return a way to curl the API server before the stranger."""
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(
        f'[sites.{SITE}.interlink]\nplugin = "http://127.0.0.1:{stranger.port}"\n'
        f"plugin_token = false\nlegacy_list = {str(legacy).lower()}\n"
    )
    service = build_api(context, SITE)
    end = await serving(service)
    url = context.url(f"interlink@{SITE}")
    token = issuer.service_token("kubelet", aud=url)

    async def curl(path, *argv, body=None, token=token):
        command = [
            "curl", "-sS", "--cacert", str(context.tls_server().cafile), "-m", "20",
            "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json",
            "-w", "\n%{http_code}", *argv,
        ]  # fmt: skip
        if body is not None:
            command += ["--data-binary", body if isinstance(body, str) else json.dumps(body)]
        process = await asyncio.create_subprocess_exec(
            *command,
            url + path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        answer, _, status = out.rpartition(b"\n")
        return int(status), answer

    curl.end = end
    curl.restart = lambda: serving(build_api(context, SITE))
    return curl


async def test_01_ping_reaches_the_plugin_and_its_body_comes_back_unchanged(api, stranger):
    ping = b'{"status":"ok",  "resources":{"cpu":"128"}, "odd" : null}'
    stranger.answers["/status"] = (200, ping)
    assert await api("/pinglink", "-X", "POST") == (200, ping)
    method, path, body, _ = stranger.seen[-1]
    assert (method, path, json.loads(body)) == ("GET", "/status", [])


async def test_02_ping_fails_within_seconds_when_the_plugin_is_down(api, stranger):
    await stranger.stop()
    began = time.monotonic()
    status, body = await api("/pinglink", "-X", "POST")
    assert (status, body) == (503, b"503")
    assert time.monotonic() - began < 5


async def test_05_create_hands_over_one_object_and_passes_the_answer(api, stranger):
    status, body = await api("/create", "-X", "POST", body=CREATE)
    assert (status, json.loads(body)) == (200, {"PodUID": UID, "PodJID": "48213"})
    method, path, sent, _ = stranger.seen[-1]
    assert (method, path) == ("POST", "/create")
    assert set(json.loads(sent)) == {"pod", "container", "jobConfig"}
    assert json.loads(sent)["pod"] == POD


async def test_06_objects_go_to_the_container_that_mounts_them_init_first(api, stranger):
    await api("/create", "-X", "POST", body=CREATE)
    prepare, main = json.loads(stranger.seen[-1][2])["container"]
    assert (prepare["name"], main["name"]) == ("prepare", "main")
    assert prepare["configMaps"] is None
    assert [entry["metadata"]["name"] for entry in main["configMaps"]] == ["train-cfg"]
    assert main["projectedvolumemaps"] == CREATE["projectedvolumesmaps"]
    assert main["secrets"] is None


class TestLegacy:
    @pytest.fixture
    def legacy(self):
        return True

    async def test_07_create_sends_a_list_of_one_when_the_plugin_is_old(self, api, stranger):
        await api("/create", "-X", "POST", body=CREATE)
        (sent,) = json.loads(stranger.seen[-1][2])
        assert sent["pod"] == POD


@pytest.mark.parametrize("code", [400, 422, 500])
async def test_08_a_refusal_is_relayed_with_its_code_and_text(api, stranger, code):
    stranger.answers["/create"] = (code, b"sbatch: <no> such partition")
    session = "CreatePod#17"
    argv = ("-X", "POST", "-H", f"InterLink-Http-Session: {session}")
    status, body = await api("/create", *argv, body=CREATE)
    assert status == code
    assert body.decode() == (
        f"HTTP InterLink session {session}:  call exit status: 500. "
        "Body: sbatch: &lt;no&gt; such partition"
    )


@pytest.mark.parametrize("code", [201, 204])
async def test_08_any_other_success_of_the_plugin_is_a_failure(api, stranger, code):
    stranger.answers["/create"] = (code, b"")
    status, _ = await api("/create", "-X", "POST", body=CREATE)
    assert status == 502


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_09_status_takes_its_body_with_get_and_post(api, stranger, method):
    stranger.answers["/status"] = (200, json.dumps([RUNNING]).encode())
    other = {**POD, "metadata": {**POD["metadata"], "uid": UID.replace("7c1f", "0000")}}
    asked = [{**POD, "status": {"phase": "Running"}}, other]
    status, body = await api("/status", "-X", method, body=asked)
    assert (status, json.loads(body)) == (200, [RUNNING])
    assert [pod["metadata"]["uid"] for pod in json.loads(stranger.seen[-1][2])] == [
        UID,
        other["metadata"]["uid"],
    ]


async def test_09_status_reads_null_as_no_statuses(api, stranger):
    stranger.answers["/status"] = (200, b"null")
    assert await api("/status", "-X", "GET", body=[POD]) == (200, b"[]")


async def test_10_an_empty_list_gives_the_whole_cache_and_asks_nobody(api, stranger):
    await api("/create", "-X", "POST", body=CREATE)
    stranger.answers["/status"] = (200, json.dumps([RUNNING]).encode())
    await api("/status", "-X", "GET", body=[POD])
    stranger.seen.clear()
    status, body = await api("/status", "-X", "GET", body=[])
    assert (status, json.loads(body)) == (200, [RUNNING])
    assert stranger.seen == []


async def test_10_the_cache_survives_a_restart(api, stranger):
    stranger.answers["/status"] = (200, json.dumps([RUNNING]).encode())
    await api("/status", "-X", "GET", body=[POD])
    await api.end()
    await api.restart()
    assert json.loads((await api("/status", "-X", "GET", body=[]))[1]) == [RUNNING]


async def test_11_a_finished_pod_is_answered_from_the_cache(api, stranger):
    stranger.answers["/status"] = (200, json.dumps([RUNNING]).encode())
    await api("/status", "-X", "GET", body=[POD])
    for phase, calls in (("Succeeded", 0), ("Failed", 0), ("Running", 1), ("Pending", 1)):
        stranger.seen.clear()
        asked = [{**POD, "status": {"phase": phase}}]
        assert json.loads((await api("/status", "-X", "GET", body=asked))[1]) == [RUNNING]
        assert len(stranger.calls("/status")) == calls, phase


@pytest.mark.parametrize("method", ["DELETE", "POST"])
async def test_12_delete_reaches_the_plugin_as_post_and_empties_the_cache(api, stranger, method):
    stranger.answers["/status"] = (200, json.dumps([RUNNING]).encode())
    await api("/status", "-X", "GET", body=[POD])
    assert await api("/delete", "-X", method, body=POD) == (200, b"deleted")
    seen_method, path, body, _ = stranger.seen[-1]
    assert (seen_method, path, json.loads(body)) == ("POST", "/delete", POD)
    assert await api("/status", "-X", "GET", body=[]) == (200, b"[]")
    assert await api("/delete", "-X", method, body=POD) == (200, b"deleted")


BROKEN = ["", "{", '{"pod":', "nonsense", "\x01", "[" * 100_000]
MISSHAPEN = [
    "{}",
    "[]",
    "7",
    '"text"',
    '{"pod": 3}',
    '{"metadata": []}',
    "[3]",
    '[{"metadata": 1}]',
]


@pytest.mark.parametrize("path", ["/create", "/delete", "/status", "/getLogs", "/updateCache"])
async def test_13_malformed_bodies_get_4xx_and_the_server_keeps_serving(api, stranger, path):
    for body in (*BROKEN, *MISSHAPEN):
        status, answer = await api(path, "-X", "POST", body=body)
        fine = (path, body) == ("/status", "[]")
        assert (status == 200) if fine else (400 <= status < 500), (path, body[:20], answer)
    assert (await api("/pinglink", "-X", "POST"))[0] == 200


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"PodUID": "../../etc"}, "invalid pod UID: must be a valid UUID"),
        ({"PodUID": UID.upper()}, "invalid pod UID: must be a valid UUID"),
        ({"Namespace": "a/b"}, "invalid namespace: must be a valid DNS label"),
        ({"ContainerName": "../x"}, "invalid container name: must be a valid DNS label"),
        (
            {"Opts": {"Tail": 1, "Bytes": 1}},
            "Both Tail and LimitBytes set. Set only one of them",
        ),
        (
            {"Opts": {"Tail": 1, "LimitBytes": 1}},
            "Both Tail and LimitBytes set. Set only one of them",
        ),
        (
            {"Opts": {"SinceSeconds": 1, "SinceTime": "2026-01-01T00:00:00Z"}},
            "Both SinceSeconds and SinceTime set. Set only one of them",
        ),
        ({"Opts": {"Tail": "many"}}, "invalid request body"),
    ],
)
async def test_14_bad_log_requests_get_400_with_upstreams_texts(api, stranger, change, text):
    status, body = await api("/getLogs", "-X", "GET", body={**LOGS, **change})
    assert (status, body.decode()) == (400, text)
    assert stranger.seen == []


async def test_14_logs_come_through_when_the_request_is_good(api, stranger):
    assert await api("/getLogs", "-X", "GET", body=LOGS) == (200, b"line 1\nline 2\n")
    method, _, body, _ = stranger.seen[-1]
    assert (method, json.loads(body)) == ("GET", LOGS)


async def test_16_the_session_header_reaches_the_plugin_unchanged(api, stranger):
    header = "InterLink-Http-Session"
    for path, body in (("/create", CREATE), ("/delete", POD), ("/status", [POD])):
        await api(path, "-X", "POST", "-H", f"{header}: GetStatus#4711", body=body)
        assert stranger.seen[-1][3][header] == "GetStatus#4711"
    await api("/create", "-X", "POST", body=CREATE)
    assert stranger.seen[-1][3][header].startswith("Request-")


async def test_update_cache_takes_a_pod_or_a_bare_uid(api, stranger):
    for body in (POD, UID):
        stranger.answers["/status"] = (200, json.dumps([RUNNING]).encode())
        await api("/status", "-X", "GET", body=[POD])
        assert await api("/updateCache", "-X", "POST", body=body) == (200, b"Updated cache")
        assert await api("/status", "-X", "GET", body=[]) == (200, b"[]")


@pytest.mark.parametrize("answer", [b"", b"<html>", b"7", b'{"error": "no"', b"[[]]", b"{}"])
async def test_garbage_of_the_plugin_is_its_fault_not_a_success(api, stranger, answer):
    stranger.answers["/create"] = stranger.answers["/status"] = (200, answer)
    assert (await api("/create", "-X", "POST", body=CREATE))[0] == 502
    if answer:
        assert (await api("/status", "-X", "GET", body=[POD]))[0] == 502


@pytest.mark.story("Plug-in answering 200 with an error inside")
@pytest.mark.parametrize("fault", [{"error": "disk full"}, {"error": {"code": 7}, "PodUID": UID}])
async def test_an_error_inside_a_success_is_the_plugins_fault(api, stranger, fault):
    stranger.answers["/status"] = (200, json.dumps([RUNNING]).encode())
    assert (await api("/status", "-X", "GET", body=[POD]))[0] == 200
    broken = json.dumps(fault).encode()
    stranger.answers |= dict.fromkeys(("/create", "/delete", "/status"), (200, broken))
    status, text = await api("/create", "-X", "POST", body=CREATE)
    assert (status, b"error: " in text) == (502, True)
    assert (await api("/status", "-X", "GET", body=[POD]))[0] == 502
    assert (await api("/delete", "-X", "DELETE", body=POD))[0] == 502
    assert await api("/pinglink", "-X", "POST") == (503, b"503")
    stranger.answers["/status"] = (200, b"[%s]" % broken)
    assert (await api("/status", "-X", "GET", body=[POD]))[0] == 502
    ended = {**POD, "status": {"phase": "Succeeded"}}  # what is cached is still there
    assert json.loads((await api("/status", "-X", "GET", body=[ended]))[1])[0]["UID"] == UID


async def test_extensions_are_named_only_when_the_plugin_has_them(api, stranger, context):
    stranger.answers["/status"] = (200, b'{"status":"ok","extensions":["events","magic"]}')
    _, out = await api("/pinglink", "-X", "POST", "-D", "-", "-o", "/dev/null")
    assert b"twinfra-extensions: events\r\n" in out.lower()
    stranger.answers["/status"] = (200, b"fine")
    _, out = await api("/pinglink", "-X", "POST", "-D", "-", "-o", "/dev/null")
    assert b"twinfra-extensions" not in out.lower()
