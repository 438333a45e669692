"""Asks a container how it is: HTTP, TCP or a command, again and again (Kubernetes v1.Probe).

The keeper lives in the pod's network, so 127.0.0.1 is the pod's own. It must not act on the
answer: `container.py` does.
"""

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import Optional

from .grpc import HealthCheck
from .loop import READ, WRITE, Loop, Timer
from .model import HttpGet, Probe
from .spawn import StartFailedError

Run = Callable[[tuple[str, ...], Callable[[int], None]], int]
_ANSWER_BYTES = 1024


class Prober:
    """One probe of one run of a container; calls `passed` or `failed` at its threshold."""

    def __init__(
        self,
        loop: Loop,
        probe: Probe,
        run: Run,
        passed: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._probe = probe
        self._run = run
        self._passed = passed
        self._failed = failed
        self._successes = 0
        self._failures = 0
        self._stopped = False
        self._try: Optional[Question] = None
        self._timer: Optional[Timer] = None

    def start(self) -> None:
        """Begin after the initial delay."""
        self._timer = self._loop.after(self._probe.initial_delay_s, self._ask)

    def stop(self) -> None:
        """Ask no more; an answer under way is dropped."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._try is not None:
            self._try.close()

    def _ask(self) -> None:
        if self._stopped:
            return
        self._timer = self._loop.after(self._probe.period_s, self._ask)
        if self._try is not None and not self._try.done:
            return
        self._try = Question(self._loop, self._probe, self._answered)
        self._try.begin(self._run)

    def _answered(self, success: bool) -> None:
        if self._stopped:
            return
        if success:
            self._successes, self._failures = self._successes + 1, 0
            if self._successes == self._probe.success_threshold:
                self._passed()
        else:
            self._successes, self._failures = 0, self._failures + 1
            if self._failures == self._probe.failure_threshold:
                self._failed()


class Question:
    """One question; exactly one answer unless it is closed before."""

    def __init__(self, loop: Loop, probe: Probe, answer: Callable[[bool], None]) -> None:
        self._loop = loop
        self._probe = probe
        self._answer = answer
        self._socket: Optional[socket.socket] = None
        self._pid: Optional[int] = None
        self._health: Optional[HealthCheck] = None
        self._read = b""
        self.done = False
        self._timer = loop.after(probe.timeout_s, lambda: self._finish(success=False))

    def execute(self, run: Run, command: tuple[str, ...], *, last: bool) -> bool:
        """Success is exit code 0."""
        try:
            self._pid = run(command, self._executed)
        except (StartFailedError, OSError):
            if not last:
                return False
            self._finish(success=False)
        return True

    def _executed(self, code: int) -> None:
        self._pid = None
        self._finish(success=code == 0)

    def begin(self, run: Run, *, last: bool = True) -> bool:
        """Ask; unless it is the `last` try, say False where the container is not there yet."""
        if self._probe.exec_command is None:
            self.connect()
            return True
        return self.execute(run, self._probe.exec_command, last=last)

    def connect(self) -> None:
        """Success is an accepted connection, for HTTP a good status, for gRPC a good answer."""
        port = self._probe.http.port if self._probe.http else self._probe.tcp_port or 0
        if self._probe.grpc is not None:
            port = self._probe.grpc.port
            self._health = HealthCheck(port, self._probe.grpc.service)
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        door.setblocking(False)
        self._socket = door
        if door.connect_ex(("127.0.0.1", port)) not in {0, errno.EINPROGRESS}:
            self._finish(success=False)
            return
        self._loop.watch(door, WRITE, self._connected)

    def _connected(self) -> None:
        door = self._socket
        if door is None or door.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
            self._finish(success=False)
        elif self._health is not None:
            self._send(door, self._health.request, self._answered_by_grpc)
        elif self._probe.http is not None:
            self._send(door, _request(self._probe.http), self._readable)
        else:
            self._finish(success=True)

    def _send(self, door: socket.socket, data: bytes, answered: Callable[[], None]) -> None:
        try:
            door.sendall(data)
        except OSError:
            self._finish(success=False)
            return
        self._loop.watch(door, READ, answered)

    def _answered_by_grpc(self) -> None:
        door, health = self._socket, self._health
        if door is None or health is None:
            return
        try:
            data = door.recv(_ANSWER_BYTES)
            told = health.feed(data)
            if told:
                door.sendall(told)
        except OSError:
            data = b""
        if health.answer is not None or not data:
            self._finish(success=bool(health.answer))

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_ANSWER_BYTES)
        except OSError:
            data = b""
        self._read += data
        if b"\n" in self._read or not data or len(self._read) > _ANSWER_BYTES:
            words = self._read.split(b"\n", 1)[0].split()
            status = words[1] if len(words) > 1 and words[0].startswith(b"HTTP/") else b"0"
            self._finish(success=status.isdigit() and 200 <= int(status) < 400)

    def _finish(self, *, success: bool) -> None:
        if not self.done:
            self.close()
            self._answer(success)

    def close(self) -> None:
        """Give up without an answer."""
        self.done = True
        self._timer.cancel()
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None
        if self._pid is not None:
            # The command has its own session and group; its middle process dies with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
            self._pid = None


def _request(http: HttpGet) -> bytes:
    headers = {"Host": f"127.0.0.1:{http.port}", "User-Agent": "twinfra-keeper", "Accept": "*/*"}
    headers.update(http.headers)
    lines = [f"GET {http.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("utf-8", "replace")
