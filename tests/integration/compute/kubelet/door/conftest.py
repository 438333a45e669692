"""A door whose site is a small interLink server that runs real processes of this machine."""

import asyncio
import contextlib
import json
import os
import signal

import aiohttp
import pytest
from aiohttp import web

from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.interlink.tunnel import pump
from twinfra.core.http.client import HttpClient

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


class ServerPipe:
    """A pipe over the server's side of a WebSocket."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, piece):
        await self.socket.send_bytes(piece)

    async def receive(self):
        message = await self.socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None


class SiteHere:
    """The paths of an interLink API that a door uses; commands are processes here."""

    def __init__(self):
        self.log = asyncio.Queue()
        self.lines = []
        self.asked = []
        self.processes = []
        self.sizes = []
        self.cpu_time_s = 10.0

    def app(self):
        app = web.Application()
        app.router.add_get("/ext/exec", self.exec)
        app.router.add_get("/ext/attach", self.exec)
        app.router.add_get("/ext/portforward", self.portforward)
        app.router.add_get("/ext/stats", self.stats)
        app.router.add_get("/getLogs", self.logs)
        return app

    def say(self, at, text):
        self.lines.append((at, text))
        self.log.put_nowait((at, text))

    async def logs(self, request):
        body = await request.json()
        opts = body["Opts"]
        self.asked.append(body)
        if body["ContainerName"] == "broken":
            raise web.HTTPBadGateway(text="the site is ill")
        since = opts["SinceTime"] if not opts["SinceTime"].startswith("0001") else ""
        answer = web.StreamResponse()
        await answer.prepare(request)
        lines = [line for line in self.lines if line[0][:19] >= since[:19]]
        lines = lines[-opts["Tail"] :] if opts["Tail"] else lines
        text = "".join(
            f"{at} {text}\n" if opts["Timestamps"] else f"{text}\n" for at, text in lines
        )
        text = text[: opts["Bytes"]] if opts["Bytes"] else text
        await answer.write(text.encode())
        while opts["Follow"]:
            at, text = await self.log.get()
            if text is None:
                break
            line = f"{at} {text}\n" if opts["Timestamps"] else f"{text}\n"
            await answer.write(line.encode())
        return answer

    async def stats(self, request):
        self.cpu_time_s += 1.0
        part = {
            "cpu_time_s": self.cpu_time_s,
            "wall_time_s": 20.0,
            "memory_bytes": 50 * 1024**2,
            "memory_peak_bytes": 60 * 1024**2,
        }
        body = {
            "uid": request.query["uid"],
            "at": "2030-01-01T00:00:00Z",
            "containers": [{"name": "main", **part}],
            **part,
        }
        return web.json_response(body)

    async def portforward(self, request):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(request.query["port"]))
        except OSError as error:
            raise web.HTTPBadGateway(text="nobody listens there") from error
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await pump(ServerPipe(socket), reader, writer)
        await socket.close()
        return socket

    async def exec(self, request):
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",), max_msg_size=2**20)
        await socket.prepare(request)
        wants = {name: request.query.get(name) == "true" for name in ("stdin", "tty")}
        command = request.query.getall("command", ["cat"])
        streams = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        if wants["tty"]:
            mine, theirs = os.openpty()
            streams = {"stdin": theirs, "stdout": theirs}
        elif not wants["stdin"]:
            streams["stdin"] = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, **streams, start_new_session=True,
            stderr=streams["stdout"] if wants["tty"] else asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        if wants["tty"]:
            os.close(theirs)
            await self._terminal(socket, process, mine)
        else:
            await self._pipes(socket, process)
        return socket

    async def _pipes(self, socket, process):
        async def out(channel, reader):
            while piece := await reader.read(32768):
                await socket.send_bytes(bytes([channel]) + piece)

        outs = [
            asyncio.create_task(out(STDOUT, process.stdout)),
            asyncio.create_task(out(STDERR, process.stderr)),
        ]

        def put(piece):
            if process.stdin is not None:
                process.stdin.write(piece)
                return process.stdin.drain()
            return asyncio.sleep(0)

        listening = asyncio.create_task(
            self._listen(socket, process, put, lambda: process.stdin and process.stdin.close())
        )
        await asyncio.gather(*outs)
        await self._end(socket, await process.wait())
        listening.cancel()

    async def _terminal(self, socket, process, mine):
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue()

        def readable():
            try:
                piece = os.read(mine, 4096)
            except OSError:
                piece = b""
            queue.put_nowait(piece)
            if not piece:
                loop.remove_reader(mine)

        loop.add_reader(mine, readable)

        async def put(piece):
            os.write(mine, piece)

        listening = asyncio.create_task(self._listen(socket, process, put, lambda: None))
        while piece := await queue.get():
            await socket.send_bytes(bytes([STDOUT]) + piece)
        await self._end(socket, await process.wait())
        listening.cancel()
        os.close(mine)

    async def _listen(self, socket, process, put, shut):
        async for message in socket:
            channel, data = message.data[0], message.data[1:]
            if channel == STDIN:
                with contextlib.suppress(OSError):
                    await put(data)
            elif channel == CLOSE and data == bytes([STDIN]):
                shut()
            elif channel == RESIZE:
                self.sizes.append(json.loads(data))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    async def _end(self, socket, code):
        status = {"metadata": {}, "status": "Success"}
        if code:
            status = {
                "metadata": {},
                "status": "Failure",
                "message": f"command terminated with non-zero exit code: exit status {code}",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
            }
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            await socket.send_bytes(bytes([ERROR]) + json.dumps(status).encode())
            await socket.close()


@pytest.fixture
async def site_here():
    """The site; `client` of it is a real `InterlinkClient`."""
    made = SiteHere()
    runner = web.AppRunner(made.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.client = InterlinkClient(HttpClient(f"http://{host}:{port}"))
    yield made
    await made.client.close()
    for process in made.processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await runner.cleanup()


@pytest.fixture
async def web_server():
    """A server behind a port of the pod: port, and what it answers."""

    async def answer(reader, writer):
        line = await reader.readline()
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello " + line.split()[1] + b"x" * 300_000 + b"\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
