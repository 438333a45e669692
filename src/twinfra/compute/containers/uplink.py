"""Finds the program by which a pod with a network of its own reaches the outside.

It must not run it: the keeper does (`keeper/uplink.py`). Source: slirp4netns(1).
"""

import os
import shutil

from twinfra.compute.containers.keeper.uplink import PID, READY_FD

RESOLVER = "10.0.2.3"
"""Where slirp4netns answers DNS within the pod's network."""
_TUN = "/dev/net/tun"


def find_uplink() -> tuple[str, ...]:
    """Return the command for `PodPlan.uplink`; empty where this user cannot have one.

    The pod reaches the outside through the host's addresses, the host's own loopback never.
    """
    program = shutil.which("slirp4netns")
    if program is None or not os.access(_TUN, os.R_OK | os.W_OK):
        return ()
    return (
        program, "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox",
        f"--ready-fd={READY_FD}", PID, "tap0",
    )  # fmt: skip
