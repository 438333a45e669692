"""What the neighbours say of a site becomes the facts of a ranking."""

import pytest

from twinfra.orchestration.catalogue.client import ListedProvider, Provider, ProviderState
from twinfra.orchestration.catalogue.model import Containers
from twinfra.orchestration.ranking.gathering import site_facts
from twinfra.orchestration.ranking.model import Request

REQUEST = Request(cpu=1, memory_bytes=1, group="climate")


@pytest.mark.parametrize(
    ("containers", "why"),
    [
        (Containers(), ""),
        (Containers(available=True, why_not="denied", fix="sudo x"), ""),
        (Containers(available=False, why_not="denied"), "denied"),
        (Containers(available=False), "it does not say why"),
    ],
)
def test_a_site_runs_no_containers_when_it_says_so(containers, why):
    provider = Provider("hpc-b", "hpc", interlink_url="https://x", containers=containers)
    listed = ListedProvider(provider, ProviderState.ACTIVE, '"tag"')
    assert site_facts(listed, None, REQUEST).no_containers == why
