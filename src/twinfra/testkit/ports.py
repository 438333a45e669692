"""Ports for servers that cannot take port 0."""

import socket
from contextlib import closing

LOOPBACK = "127.0.0.1"
_given: set[int] = set()


def free_port() -> int:
    """Return a loopback port nobody listens on, never the same twice in one process.

    Another process may still take it first: whoever starts a server with it tries again when the
    server says that its port is taken.
    """
    while True:
        with closing(socket.socket()) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def listening(port: int, host: str = LOOPBACK) -> bool:
    """Return whether somebody accepts connections at `port`."""
    with closing(socket.socket()) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((host, port)) == 0
