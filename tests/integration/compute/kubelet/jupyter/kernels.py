"""Runs a cell as JupyterLab's page does: a kernel over REST, its messages over a WebSocket.

Source: Jupyter Server, "REST API"; Jupyter Client, "Messaging in Jupyter".
"""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from twinfra.core.ids import new_uuid

WITHIN_S = 90.0


@asynccontextmanager
async def kernel(session, url):
    """Give the id of a kernel of the Jupyter server at `url`; it is ended afterwards."""
    async with session.post(f"{url}/api/kernels", json={"name": "python3"}) as answer:
        assert answer.status == 201, await answer.text()
        made = (await answer.json())["id"]
    try:
        yield made
    finally:
        async with session.delete(f"{url}/api/kernels/{made}") as answer:
            assert answer.status == 204, await answer.text()


async def run_cell(session, url, code):
    """Run `code` in a new kernel; gives what it printed and how it ended."""
    async with kernel(session, url) as made:
        channels = f"{url}/api/kernels/{made}/channels"
        async with asyncio.timeout(WITHIN_S), session.ws_connect(channels) as socket:
            request = _request(code)
            await socket.send_json(request)
            return await _outcome(socket, request["header"]["msg_id"])


async def _outcome(socket, asked):
    """Return what the kernel printed and its reply's status, once both are over."""
    printed, status, idle = "", None, False
    while status is None or not idle:
        told = json.loads(await socket.receive_str())
        if told["parent_header"].get("msg_id") != asked:
            continue
        kind, content = told["msg_type"], told["content"]
        if kind == "stream":
            printed += content["text"]
        elif kind == "execute_reply":
            status = content["status"]
        elif kind == "status":
            idle = content["execution_state"] == "idle"
    return printed, status


def _request(code):
    header = {
        "msg_id": new_uuid(),
        "session": new_uuid(),
        "username": "test",
        "date": datetime.now(UTC).isoformat(),
        "msg_type": "execute_request",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
    content |= {"allow_stdin": False, "stop_on_error": True}
    parts = {"parent_header": {}, "metadata": {}, "buffers": []}
    return {"header": header, "content": content, "channel": "shell", **parts}
