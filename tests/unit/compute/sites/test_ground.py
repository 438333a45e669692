"""What network jobs get, by the settings and by what this machine allows."""

import pytest

from twinfra.compute.sites import runtime
from twinfra.compute.sites.settings import ComputeSettings


@pytest.mark.parametrize(
    ("wanted", "program", "isolated", "network", "uplink"),
    [
        ("private", ("slirp",), True, "private", ("slirp",)),
        ("private", (), True, "none", ()),
        ("private", ("slirp",), False, "host", ("slirp",)),
        ("none", ("slirp",), True, "none", ()),
        ("host", ("slirp",), True, "host", ()),
    ],
)
def test_a_private_network_needs_isolation_and_a_way_out(
    monkeypatch, wanted, program, isolated, network, uplink
):
    monkeypatch.setattr(runtime, "find_uplink", lambda: program)
    settings = ComputeSettings(network=wanted)
    ground = runtime._ground(runtime.NoRuntime("test"), settings, isolated=isolated)
    assert (ground.effective_network, ground.uplink) == (network, uplink)
