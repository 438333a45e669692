"""Unix sockets that only this process's own user, and root, may speak to.

Source: unix(7), SO_PEERCRED.
"""

import os
import socket
import struct
from pathlib import Path
from typing import Any

from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")


class PeerCheckedSocket(socket.socket):
    """A listening socket whose `accept` gives nobody but our own user and root."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection.

        Raises:
            ConnectionAbortedError: it was somebody else's, and is closed.
        """
        connection, address = super().accept()
        if peer_uid(connection) not in {0, os.geteuid()}:
            log.warning("unix_peer_refused", path=self.getsockname())
            connection.close()
            raise ConnectionAbortedError
        return connection, address


def peer_uid(connection: socket.socket) -> int:
    """Return the user at the other end, as the kernel knows them."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(told)[1])


def listen_privately(path: Path) -> PeerCheckedSocket:
    """Return a socket that listens at `path`, mode 0600; what a dead process left there goes.

    Raises:
        OSError: the path is too long, or its folder is not there.
    """
    path.unlink(missing_ok=True)
    door = PeerCheckedSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        door.bind(str(path))
    finally:
        os.umask(before)
    door.listen(BACKLOG)
    door.setblocking(False)
    return door
