"""A small event loop: descriptors, timers, signals. One thread, nothing else.

One thread on purpose: the kernel ties "die with the parent" to the thread that forked.
"""

import contextlib
import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    """A call to come; `cancel` takes it back."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Make the call not happen; harmless afterwards."""
        self.cancelled = True


class Loop:
    """Runs callbacks until `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._signals: dict[int, Callable[[], None]] = {}
        self._running = False
        self._bell, ring = socket.socketpair()
        for end in (self._bell, ring):
            end.setblocking(False)
        self._ring = ring
        signal.set_wakeup_fd(ring.fileno(), warn_on_full_buffer=False)
        self.watch(self._bell, READ, self._rung)

    def watch(self, source: Any, events: int, call: Callable[[], None]) -> None:
        """Call when the descriptor is ready; replaces an earlier watch of it."""
        try:
            self._selector.modify(source, events, call)
        except KeyError:
            self._selector.register(source, events, call)

    def forget(self, source: Any) -> None:
        """End the watch of a descriptor; harmless if there is none."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call once after the delay."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._count), timer))
        return timer

    def on_signal(self, number: int, call: Callable[[], None]) -> None:
        """Call, outside of the signal handler, whenever the signal arrives."""
        self._signals[number] = call
        signal.signal(number, lambda *_: None)

    def stop(self) -> None:
        """Return from `run` after the present callback."""
        self._running = False

    def run(self) -> None:
        """Serve callbacks until `stop`."""
        self._running = True
        while self._running:
            self._run_timers()
            pause_s = self._pause_s() if self._running else 0.0
            for key, _ in self._selector.select(pause_s):
                # An earlier callback of this round may have ended the watch of a later one.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()

    def _pause_s(self) -> Any:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.call()

    def _rung(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in set(self._bell.recv(4096)):
                if number in self._signals:
                    self._signals[number]()
