"""A small interLink of somebody else: API server or plug-in, with what is published and no more.

It has no extension and no header of ours, answers pings with next to nothing, spells empty lists
``null``, and takes a pod again as a second job. Jobs do what the test says.

Source: interLink 0.5-0.7, ``PodCreateRequests``, ``CreateStruct``, ``PodStatus``, ``LogStruct``.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from twinfra.testkit.ports import LOOPBACK

Json = dict[str, Any]
BEGAN = "2026-07-20T10:00:00Z"
PUBLISHED = frozenset({"/create", "/delete", "/status", "/getLogs", "/pinglink", "/updateCache"})


@dataclass(frozen=True)
class ForeignCall:
    """One request, and when it came [s, monotonic]."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, str]
    at_s: float


@dataclass
class ForeignJob:
    """One job; it waits until `state` says otherwise."""

    pod: Json
    native_id: str
    state: Json = field(default_factory=lambda: {"waiting": {"reason": "PD"}})


class ForeignInterlink:
    """The server, on a loopback port; `faults` answer in the place of a path, once each.

    A fault is the status and the body of an answer; ``takes`` says whether the request is obeyed
    all the same. `broken` answers so until it is taken away.
    """

    def __init__(self) -> None:
        self.calls: list[ForeignCall] = []
        self.jobs: list[ForeignJob] = []
        self.faults: dict[str, list[tuple[int, bytes]]] = {}
        self.broken: dict[str, tuple[int, bytes]] = {}
        self.takes = False
        self.log = b""
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Begin to listen."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, 0).start()
        self.url = f"http://{LOOPBACK}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    def of(self, path: str, uid: str = "") -> list[ForeignCall]:
        """Return the calls of a path, in order; with `uid` those that name the pod."""
        return [
            call for call in self.calls if call.path == path and uid in json.dumps(call.body or "")
        ]

    def job(self, uid: str) -> ForeignJob | None:
        """Return the job of a pod."""
        return next((job for job in self.jobs if job.pod["metadata"]["uid"] == uid), None)

    def run(self, uid: str) -> None:
        """Let a pod's job run."""
        self._told(uid, {"running": {"startedAt": BEGAN}})

    def finish(self, uid: str, code: int = 0) -> None:
        """Let a pod's job end."""
        self._told(uid, {"terminated": {"exitCode": code, "startedAt": BEGAN, "finishedAt": BEGAN}})

    def _told(self, uid: str, state: Json) -> None:
        job = self.job(uid)
        assert job is not None, f"no job of {uid}"
        job.state = state

    async def _handle(self, request: web.Request) -> web.Response:
        text = await request.read()
        body = json.loads(text) if text else None
        self.calls.append(
            ForeignCall(request.method, request.path, body, dict(request.headers), time.monotonic())
        )
        if request.path not in PUBLISHED:
            return web.Response(status=404, text="404 page not found\n")
        waiting = self.faults.get(request.path) or []
        fault = self.broken.get(request.path) or (waiting.pop(0) if waiting else None)
        if fault is None or self.takes:
            answer = self._answer(request.path, body)
        if fault is not None:
            return web.Response(status=fault[0], body=fault[1])
        return web.Response(body=answer)

    def _answer(self, path: str, body: Any) -> bytes:
        if path == "/create":
            job = ForeignJob(body["pod"], str(48213 + len(self.jobs)))
            self.jobs.append(job)
            uid = job.pod["metadata"]["uid"]
            return json.dumps({"PodUID": uid, "PodJID": job.native_id}).encode()
        if path == "/delete":
            gone = self.job(body["metadata"]["uid"])
            self.jobs = [job for job in self.jobs if job is not gone]
            return b"deleted"
        if path == "/status":
            uids = {pod["metadata"]["uid"] for pod in body or ()}
            found = [job for job in self.jobs if job.pod["metadata"]["uid"] in uids]
            return json.dumps([_status(job) for job in found] or None).encode()
        return self.log if path == "/getLogs" else b"ok"


def _status(job: ForeignJob) -> Json:
    metadata = job.pod["metadata"]
    return {
        "name": metadata["name"],
        "UID": metadata["uid"],
        "namespace": metadata["namespace"],
        "JID": job.native_id,
        "containers": [
            {
                "name": entry["name"], "state": job.state, "lastState": {}, "ready": False,
                "restartCount": 0, "image": "", "imageID": "",
            }
            for entry in job.pod["spec"]["containers"]
        ],
        "initContainers": None,
    }  # fmt: skip
