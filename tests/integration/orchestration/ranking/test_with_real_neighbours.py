"""Ranking with the federation's own issuer, catalogue, monitoring and datasets service."""

import pytest

from twinfra.core.errors import InvalidRequest, TwinfraError
from twinfra.data.datasets.client import Did
from twinfra.testkit.ranked import MIB, ranked_federation
from twinfra.testkit.waiting import wait_for

CPUS = {"hpc-b": 8, "edge-c": 1}
FREE = {"hpc-b": 8, "edge-c": 0}
JOB = {"cpu": 1, "memory_bytes": 512 * MIB}
SCENARIOS = Did("climate", "scenarios")


@pytest.fixture
async def federation(context, tmp_path):
    (tmp_path / "nats").mkdir()
    async with ranked_federation(context, tmp_path / "nats", CPUS, FREE) as made:
        yield made


@pytest.mark.story(
    "The orchestrator ranks the providers and says why: each factor, its value and weight"
)
@pytest.mark.slow
async def test_edge_holds_the_data_and_wins_only_with_a_free_cpu(federation):
    asks = federation.asks
    await federation.dataset(SCENARIOS, "EDGE-C", "scenarios/a.nc", "scenarios/b.nc")

    async def best():
        try:
            return await asks.rank(JOB, [str(SCENARIOS)], group="climate")
        except TwinfraError as error:
            return error if isinstance(error, InvalidRequest) else None

    async def first_is(site):
        answer = await best()
        return answer if getattr(answer, "sites", ())[:1] == (site,) else None

    answer = await wait_for(lambda: first_is("hpc-b"), timeout_s=20, what="hpc-b is best")
    why = answer.body["candidates"][0]["factors"][0]["why"]
    assert why == "12.0 MiB of climate:scenarios come from edge-c at 4.0 MiB/s, 3 s"
    federation.free["edge-c"] = 1
    answer = await wait_for(lambda: first_is("edge-c"), timeout_s=20, what="edge-c is best")
    assert answer.body["candidates"][0]["factors"][0]["value"] == 0
    with pytest.raises(InvalidRequest, match="there is no dataset climate:nothing"):
        await asks.rank(JOB, ["climate:nothing"], group="climate")
