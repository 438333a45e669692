"""What a site says of itself is found out, not wished."""

import pytest

from twinfra.compute.containers.model import Isolation
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.sites import runtime
from twinfra.compute.sites.registration import SiteFacts
from twinfra.compute.sites.settings import ComputeSettings, ProviderSettings
from twinfra.core.errors import SiteRejected
from twinfra.orchestration.catalogue.client import Provider
from twinfra.orchestration.catalogue.model import Containers

ISOLATED = Isolation("bubblewrap", available=True, isolated=True)
TRACED = Isolation("proot", available=True, isolated=False, why_not="denied", fix="sudo x")
NOTHING = Isolation("none", available=False, isolated=False, why_not="denied", fix="sudo x")


def facts(isolation=ISOLATED, provider=None, **compute):
    return SiteFacts(
        "hpc-b",
        ComputeSettings(**compute),
        ProviderSettings(**(provider or {})),
        isolation,
        "https://localhost:1",
        "https://localhost:2",
    )


@pytest.mark.parametrize(
    ("site", "capabilities"),
    [
        (facts(), {"isolated", "batch"}),
        (facts(network="host", queue=False, provider={"services": True}),
         {"isolated", "outbound", "services"}),
        (facts(gpus={"nvidia.com/gpu": 1}), {"isolated", "batch", "gpu"}),
        (facts(TRACED), {"outbound", "batch"}),
        (facts(NOTHING, provider={"services": True}), set()),
    ],
)  # fmt: skip
def test_capabilities_are_what_the_runtime_proved(site, capabilities):
    assert set(site.capabilities()) == capabilities


def test_the_document_is_one_that_the_catalogue_takes():
    provider = Provider.from_json(facts(gpus={"nvidia.com/gpu": 2}).document())
    assert (provider.rse, provider.resources.gpu_count) == ("HPC-B", 2)
    assert provider.containers == Containers()


@pytest.mark.parametrize("isolation", [TRACED, NOTHING])
def test_the_document_says_what_stands_in_the_way_and_what_helps(isolation):
    said = Provider.from_json(facts(isolation).document()).containers
    assert said == Containers(isolation.available, "denied", "sudo x")


class Tried:
    def __init__(self, answer):
        self.name, self._answer = answer.runtime, answer

    def probe(self):
        return self._answer


def test_the_worse_runtime_says_why_the_better_one_was_passed_over(monkeypatch):
    denied = Isolation("bubblewrap", False, False, "user namespaces are denied", "sudo sysctl x")
    plain = Isolation("proot", True, False, "traces instead")
    monkeypatch.setattr(runtime, "BubblewrapRuntime", lambda **_: Tried(denied))
    monkeypatch.setattr(runtime, "ProotRuntime", lambda: Tried(plain))
    ground, isolation = runtime.choose_ground(ComputeSettings(network="none"))
    assert isinstance(ground, Ground)
    assert (ground.runtime.name, ground.effective_network) == ("proot", "host")
    assert (isolation.why_not, isolation.fix) == ("user namespaces are denied", "sudo sysctl x")


def test_pods_are_refused_with_the_reason_when_no_runtime_works(monkeypatch):
    denied = Isolation("bubblewrap", False, False, "not installed", "sudo apt-get x")
    monkeypatch.setattr(runtime, "BubblewrapRuntime", lambda **_: Tried(denied))
    ground, isolation = runtime.choose_ground(ComputeSettings(runtime="bubblewrap"))
    assert (isolation.available, isolation.isolated) == (False, False)
    assert (isolation.why_not, isolation.fix) == ("bubblewrap: not installed", "sudo apt-get x")
    with pytest.raises(SiteRejected, match="not installed"):
        ground.runtime.launch(None)
