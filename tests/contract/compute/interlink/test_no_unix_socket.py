"""Without the setting the plug-in opens no Unix socket."""

import contextlib
from pathlib import Path

import pytest

ACCEPTS = 0x00010000  # __SO_ACCEPTCON of proc(5), "/proc/net/unix"


def listening_unix_sockets():
    """Return what this process listens at, by path or ``@name``."""
    own = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            own.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return [row[7:] for row in rows if int(row[3], 16) & ACCEPTS and row[6] in own]


@pytest.fixture
def before():
    return listening_unix_sockets()


@pytest.mark.story("off by default")
async def test_no_unix_socket_is_opened_without_the_setting(before, house):
    assert (await house.client().ping()).extensions
    assert listening_unix_sockets() == before
    assert [path for path in house.ctx.home.root.rglob("*") if path.is_socket()] == []
