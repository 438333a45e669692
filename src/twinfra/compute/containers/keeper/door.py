"""The keeper's Unix socket: one JSON line in, one out; then raw bytes, or frames of a session.

Requests: `{"do": "ping" | "state" | "stats"}`, `{"do": "cancel", "grace_s": 5}`,
`{"do": "wait", "after": 7}` (answered once the state's sequence is higher; an end without an answer
means that the keeper has gone), `{"do": "connect", "port": 80}`; with `"descriptor": true` its
answer carries the connected socket itself (SCM_RIGHTS): the keeper is out of the bytes' way;
`{"do": "exec", "container": "main", "command": ["id"], "stdin": false, "stdout": true, "stderr":
true, "tty": false}` and `{"do": "attach", ...}`: frames follow the answer (`channels.py`).
Only the job's owner may open the socket's file; there is no other check. It must not decide
anything: its neighbour `pod.py` does.
"""

import array
import contextlib
import dataclasses
import errno
import json
import os
import socket
from functools import partial
from typing import Any, Optional

from . import journal
from .link import Link
from .loop import READ, WRITE, Loop, Timer
from .pod import Pod
from .relay import join
from .sessions import SessionRefusedError, Sessions

_LINE_BYTES = 64 * 1024
_CLIENTS = 256
_IDLE_S = 10.0
_CONNECT_S = 5.0
_JOIN_TRIES = 100
_JOIN_PAUSE_S = 0.05


class Door:
    """Listens in the job directory, which must be the working directory (paths stay short)."""

    def __init__(self, loop: Loop, pod: Pod) -> None:
        self.loop = loop
        self.pod = pod
        self.clients: set[_Client] = set()
        self.waiting: set[_Client] = set()
        self.sessions = Sessions(loop, pod.find)
        pod.on_change = self._changed
        with contextlib.suppress(FileNotFoundError):
            os.unlink(journal.SOCKET)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            self._listener.bind(journal.SOCKET)
        finally:
            os.umask(before)
        self._listener.listen(64)
        self._listener.setblocking(False)
        loop.watch(self._listener, READ, self._accept)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(journal.SOCKET)

    def _changed(self, sequence: int) -> None:
        for client in list(self.waiting):
            client.tell(sequence)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self.clients) >= _CLIENTS:
            connection.close()
            return
        self.clients.add(_Client(self, connection))


class _Client:
    """One connection: reads one request and answers it."""

    def __init__(self, door: Door, connection: socket.socket) -> None:
        self._door = door
        self._connection = connection
        self._read = b""
        self._after = 0
        self._timer: Optional[Timer] = door.loop.after(_IDLE_S, self._close)
        connection.setblocking(False)
        door.loop.watch(connection, READ, self._readable)

    def _close(self) -> None:
        self._hand_over()
        self._connection.close()

    def _hand_over(self) -> None:
        self._door.loop.forget(self._connection)
        self._door.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _readable(self) -> None:
        try:
            data = self._connection.recv(_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._read += data
        if b"\n" in self._read:
            self._door.loop.forget(self._connection)
            line, _, rest = self._read.partition(b"\n")
            self._serve(line, rest)
        elif not data or len(self._read) > _LINE_BYTES:
            self._close()

    def _serve(self, line: bytes, rest: bytes) -> None:
        try:
            request = json.loads(line)
            wanted = request.get("do")
            if wanted == "connect":
                self._connect(_port(request.get("port")), bool(request.get("descriptor")), rest)
                return
            if wanted in {"exec", "attach"}:
                self._join(request, rest)
                return
            if wanted == "wait":
                self._wait(int(request["after"]))
                return
            self._answer(self._reply(wanted, request))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._answer({"ok": False, "error": "not a request"})

    def _reply(self, wanted: Any, request: dict[str, Any]) -> dict[str, Any]:
        pod = self._door.pod
        if wanted == "ping":
            state = pod.state()
            return {
                "ok": True,
                "uid": state.uid,
                "attempt": state.attempt,
                "phase": state.phase,
                "sequence": state.sequence,
                "pid": os.getpid(),
            }
        if wanted == "state":
            return {"ok": True, "state": dataclasses.asdict(pod.state())}
        if wanted == "stats":
            return {"ok": True, "stats": dataclasses.asdict(pod.stats(fresh=True))}
        if wanted == "cancel":
            grace = request.get("grace_s")
            # Answered first: the end of the pod may be the end of this process.
            self._door.loop.after(0, lambda: pod.cancel(None if grace is None else float(grace)))
            return {"ok": True}
        return {"ok": False, "error": "unknown request"}

    def _answer(self, reply: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._connection.setblocking(True)
            self._connection.settimeout(1.0)
            self._connection.sendall(json.dumps(reply).encode() + b"\n")
        self._close()

    def _wait(self, after: int) -> None:
        """Answer at once or when the pod changes; notice a client that leaves meanwhile."""
        if self._timer is not None:
            self._timer.cancel()
        if self._door.pod.sequence > after:
            self._answer({"ok": True})
            return
        self._door.waiting.add(self)
        self._after = after
        self._door.loop.watch(self._connection, READ, self._left)

    def _left(self) -> None:
        self._door.waiting.discard(self)
        self._close()

    def tell(self, sequence: int) -> None:
        """The pod has changed."""
        if sequence > self._after:
            self._door.waiting.discard(self)
            self._answer({"ok": True})

    def _join(self, request: dict[str, Any], rest: bytes, tries: int = _JOIN_TRIES) -> None:
        """Turn the connection into a session."""
        try:
            begin = self._door.sessions.open(request)
        except SessionRefusedError as refusal:
            if refusal.soon and tries:
                again = partial(self._join, request, rest, tries - 1)
                self._door.loop.after(_JOIN_PAUSE_S, again)
                return
            self._answer({"ok": False, "error": str(refusal), "code": refusal.code})
            return
        self._hand_over()
        link = Link(self._door.loop, self._connection)
        link.raw(b'{"ok": true}\n')
        begin(link, rest)

    # -- connect -----------------------------------------------------------------------------

    def _connect(self, port: int, descriptor: bool, rest: bytes) -> None:
        target = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        target.setblocking(False)
        number = target.connect_ex(("127.0.0.1", port))
        if number not in {0, errno.EINPROGRESS}:
            target.close()
            self._answer({"ok": False, "error": os.strerror(number)})
            return
        if self._timer is not None:
            self._timer.cancel()

        def late() -> None:
            self._door.loop.forget(target)
            target.close()
            self._answer({"ok": False, "error": "timed out"})

        def connected() -> None:
            self._door.loop.forget(target)
            if self._timer is not None:
                self._timer.cancel()
            failure = target.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                target.close()
                self._answer({"ok": False, "error": os.strerror(failure)})
            elif descriptor:
                self._pass(target)
            else:
                self._relay(target, rest)

        self._timer = self._door.loop.after(_CONNECT_S, late)
        self._door.loop.watch(target, WRITE, connected)

    def _pass(self, target: socket.socket) -> None:
        """Hand the connected socket itself over."""
        rights = array.array("i", [target.fileno()])
        with contextlib.suppress(OSError):
            self._connection.sendmsg(
                [b'{"ok": true}\n'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            )
        target.close()
        self._close()

    def _relay(self, target: socket.socket, rest: bytes) -> None:
        self._hand_over()
        join(self._door.loop, (self._connection, b'{"ok": true}\n'), (target, rest))


def _port(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise ValueError("not a port")
    return value
