"""Takes what a sandbox command says about itself out of a container's stream.

What is the container's own passes at once, unfinished lines too: somebody may be waiting for a
prompt. It must not store anything: `output.py` and `sessions.py` do.
"""

import re
from collections import deque

from .model import Launch

_MOST_NOTES = 1000
_PREAMBLE_BYTES = 4 * 1024 * 1024
_LINE_BYTES = 64 * 1024


class Sieve:
    """The filter of one stream."""

    def __init__(self, launch: Launch, *, tty: bool = False) -> None:
        """Take the patterns of a launch; a terminal ends lines by CR LF."""
        preamble = launch.preamble.replace("\n", "\r\n") if tty else launch.preamble
        self._preamble = preamble.encode()
        self._noise = re.compile(launch.noise.encode()) if launch.noise else None
        self._head = launch.noise_head.encode()
        self._held = b""
        self.notes: deque[str] = deque(maxlen=_MOST_NOTES)
        """What was taken out."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they come and return those of the container."""
        data, self._held = self._held + data, b""
        if self._preamble:
            _, found, after = data.partition(self._preamble)
            if not found and len(data) < _PREAMBLE_BYTES:
                self._held = data
                return b""
            data, self._preamble = (after if found else data), b""
        if self._noise is None:
            return data
        data = self._noise.sub(self._note, data)
        at = self._begun(data)
        if len(data) - at < _LINE_BYTES:
            data, self._held = data[:at], data[at:]
        return data

    def end(self) -> bytes:
        """Return what was held back; there is no more."""
        self._preamble = b""
        rest, self._held = self._held, b""
        return rest if self._noise is None else self._noise.sub(self._note, rest)

    def _begun(self, data: bytes) -> int:
        """Return where a line of the sandbox command may have begun, that has not ended yet."""
        at = data.find(self._head) if self._head else -1
        if at >= 0:
            return at
        for length in range(min(len(self._head) - 1, len(data)), 0, -1):
            if data.endswith(self._head[:length]):
                return len(data) - length
        return len(data)

    def _note(self, match: "re.Match[bytes]") -> bytes:
        self.notes.append(match.group().decode(errors="replace"))
        return b""
