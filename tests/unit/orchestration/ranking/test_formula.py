"""Each factor decides alone when all else is equal; each reason excludes; answers are the same."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.orchestration.ranking.formula import Formula, rank
from twinfra.orchestration.ranking.model import (
    Candidate,
    Facts,
    InputFacts,
    Ranked,
    Reason,
    Request,
    SiteFacts,
)
from twinfra.orchestration.ranking.settings import RankingSettings, Weights

MIB = 1 << 20
REQUEST = Request(cpu=1, memory_bytes=512 * MIB, group="climate", inputs=("climate:scenarios",))
SITE = SiteFacts(
    name="a",
    cpu=4,
    memory_bytes=8 << 30,
    free_cpu=4,
    free_memory_bytes=8 << 30,
    capabilities=("isolated",),
    cpu_hour_cost=0.1,
    failure_rate=0.1,
    benchmark_hepscore23=10,
)
BUSY = replace(SITE, free_cpu=0)
DATA = InputFacts("climate:scenarios", 12 * MIB, {"store": 12 * MIB})
STORE = replace(SITE, name="store", runs_jobs=False)


def ranked(*sites: SiteFacts, request: Request = REQUEST, data: InputFacts = DATA) -> Ranked:
    return rank(request, Facts((*sites, STORE), (data,)), Formula(RankingSettings()))


def parts(candidate: Candidate) -> dict[str, float]:
    return {factor.name: factor.normalised for factor in candidate.factors}


def whys(candidate: Candidate) -> dict[str, str]:
    return {factor.name: factor.why for factor in candidate.factors}


def test_name_decides_when_all_else_is_equal() -> None:
    answer = ranked(replace(SITE, name="b"), SITE)
    assert [(each.site, each.rank) for each in answer.candidates] == [("a", 1), ("b", 2)]
    assert answer.candidates[0].score == answer.candidates[1].score


@pytest.mark.story("for each factor a test sets facts under which it alone decides")
@pytest.mark.parametrize(
    ("factor", "better", "why"),
    [
        ("free_cpu", {"free_cpu": 4, "queue_wait_s": 600}, "4 of 4 cores are free, the job wants"),
        ("queue_wait", {"queue_wait_s": 30, "queue_length": 2}, "2 jobs wait, the site expects"),
        ("speed", {"benchmark_hepscore23": 20}, "a core makes HEPScore23 20"),
        ("health", {"failure_rate": 0}, "nothing failed here"),
        ("sla", {"share": 0.5}, "50% of it is promised to climate"),
        ("cost", {"cpu_hour_cost": 0}, "it is free of charge"),
    ],
)
def test_factor_decides_alone_when_all_else_is_equal(factor, better, why) -> None:
    before = ranked(BUSY, replace(BUSY, name="b"))
    assert before.candidates[0].site == "a"
    answer = ranked(BUSY, replace(BUSY, name="b", **better))
    first, second = answer.candidates
    assert first.site == "b"
    differing = {name for name, value in parts(first).items() if value != parts(second)[name]}
    assert differing == {factor}
    assert whys(first)[factor].startswith(why)
    assert whys(first)[factor] != whys(second)[factor]


@pytest.mark.story("for each factor a test sets facts under which it alone decides")
@pytest.mark.parametrize(
    ("better", "data", "why"),
    [
        ({}, {"b": 12 * MIB}, "all inputs are here already"),
        (
            {"bandwidth_bytes_per_s": {"store": 20 * MIB}},
            {},
            "12.0 MiB of climate:scenarios come from store at 20.0 MiB/s, 0.6 s",
        ),
        ({}, {"b": 6 * MIB}, "6.0 MiB of climate:scenarios come from store at 10.0 MiB/s"),
    ],
)
def test_data_locality_decides_alone_when_all_else_is_equal(better, data, why) -> None:
    held = replace(DATA, available_bytes={**DATA.available_bytes, **data})
    answer = ranked(BUSY, replace(BUSY, name="b", **better), data=held)
    first, second = answer.candidates
    assert first.site == "b"
    assert {n for n, v in parts(first).items() if v != parts(second)[n]} == {"data_locality"}
    assert whys(first)["data_locality"].startswith(why)


def test_preference_of_operators_decides_when_all_else_is_equal() -> None:
    formula = Formula(RankingSettings(preferences={"b": 0.7}))
    answer = rank(REQUEST, Facts((SITE, replace(SITE, name="b"), STORE), (DATA,)), formula)
    assert answer.candidates[0].site == "b"
    assert whys(answer.candidates[0])["sla"] == "the operators prefer it by 0.7"


@pytest.mark.parametrize(
    ("change", "request_change", "reason", "detail"),
    [
        ({"up": False, "down_reason": "edge: refused"}, {}, Reason.DOWN, "down: edge: refused"),
        ({"up": None}, {}, Reason.NOT_CHECKED, "has not looked at it"),
        ({"stale": True}, {}, Reason.STALE, "has not said lately"),
        ({"runs_jobs": False}, {}, Reason.NO_COMPUTE, "no interLink API"),
        ({"admits_group": False}, {}, Reason.GROUP, "not admit the group climate"),
        ({}, {"capabilities": ("isolated", "outbound")}, Reason.CAPABILITY, "not offer outbound"),
        ({}, {"capabilities": ("services",)}, Reason.CAPABILITY, "not offer services"),
        ({"capabilities": ()}, {"capabilities": ("isolated",)}, Reason.CAPABILITY, "isolated"),
        ({}, {"gpus": 1}, Reason.CAPABILITY, "not offer gpu"),
        ({"gpus": 1}, {"gpus": 2}, Reason.TOO_SMALL, "1 GPUs in all, the job wants 2"),
        ({}, {"architecture": "aarch64"}, Reason.ARCHITECTURE, "are x86_64, not aarch64"),
        ({}, {"cpu": 5}, Reason.TOO_SMALL, "4 cores in all, the job wants 5"),
        ({}, {"memory_bytes": 9 << 30}, Reason.TOO_SMALL, "8.0 GiB of memory in all"),
        ({}, {"target": "b"}, Reason.NOT_TARGET, "names b as its only site"),
        ({}, {"exclude": ("a",)}, Reason.EXCLUDED, "the request excludes it"),
    ],
)
def test_site_is_excluded_with_its_reason_when_it_will_not_do(
    change, request_change, reason, detail
) -> None:
    answer = ranked(replace(SITE, **change), request=replace(REQUEST, **request_change))
    assert answer.candidates == ()
    found = next(each for each in answer.excluded if each.site == "a")
    assert found.reason is reason
    assert detail in found.detail


def test_target_is_ranked_alone_when_the_request_names_it() -> None:
    answer = ranked(SITE, replace(SITE, name="b"), request=replace(REQUEST, target="b"))
    assert [each.site for each in answer.candidates] == ["b"]


def test_input_counts_as_unreachable_when_its_only_copy_is_at_a_site_that_is_down() -> None:
    down = replace(STORE, up=False)
    answer = rank(REQUEST, Facts((SITE, down), (DATA,)), Formula(RankingSettings()))
    (only,) = answer.candidates
    factor = only.factors[0]
    assert (factor.value, factor.normalised) == (None, 0.0)
    assert factor.why == "12.0 MiB of climate:scenarios can be had from no site that is up"


def test_two_halves_are_fetched_when_no_site_has_the_whole() -> None:
    halves = InputFacts("climate:scenarios", 12 * MIB, {"s1": 6 * MIB, "s2": 6 * MIB})
    sites = (SITE, replace(STORE, name="s1"), replace(STORE, name="s2"))
    answer = rank(REQUEST, Facts(sites, (halves,)), Formula(RankingSettings()))
    factor = answer.candidates[0].factors[0]
    assert factor.value == pytest.approx(1.2)
    assert "s1 at 10.0 MiB/s and s2 at 10.0 MiB/s" in factor.why


def test_memory_and_slots_count_when_they_are_scarcer_than_cores() -> None:
    for scarce, why in (
        ({"free_memory_bytes": 128 * MIB}, "only 128.0 MiB of memory are free"),
        ({"free_slots": 0}, "no job slot is free"),
    ):
        answer = ranked(replace(SITE, **scarce), replace(SITE, name="b"))
        assert answer.candidates[0].site == "b"
        assert why in whys(answer.candidates[1])["free_cpu"]
        assert "no room" in whys(answer.candidates[1])["queue_wait"]


def test_weights_decide_what_matters_when_they_are_set() -> None:
    fast = replace(SITE, name="fast", benchmark_hepscore23=40, cpu_hour_cost=5)
    cheap = replace(SITE, name="cheap", cpu_hour_cost=0)
    facts = Facts((fast, cheap, STORE), (DATA,))
    for winner in ("speed", "cost"):
        zero = dict.fromkeys(Weights.model_fields, 0.0)
        settings = RankingSettings(weights=Weights(**{**zero, winner: 1.0}))
        best = rank(REQUEST, facts, Formula(settings)).candidates[0].site
        assert best == {"speed": "fast", "cost": "cheap"}[winner]


def test_version_changes_when_the_formula_does() -> None:
    base = Formula(RankingSettings()).version
    assert base == Formula(RankingSettings(keep_answers=5)).version
    assert base != Formula(RankingSettings(weights=Weights(cost=0.5))).version


# The facts of the demo: where the training goes, and why.
CLOUD_A = SiteFacts(
    "cloud-a", "cloud", cpu=4, memory_bytes=8 << 30, free_cpu=4, free_memory_bytes=8 << 30,
    capabilities=("services", "outbound"), benchmark_hepscore23=10, cpu_hour_cost=0.05,
    bandwidth_bytes_per_s={"edge-c": 4 * MIB, "hpc-b": 4 * MIB},
)  # fmt: skip
HPC_B = SiteFacts(
    "hpc-b", "hpc", cpu=8, memory_bytes=16 << 30, free_cpu=8, free_memory_bytes=16 << 30,
    free_slots=8, gpus=1, capabilities=("isolated", "batch", "gpu"), benchmark_hepscore23=20,
    cpu_hour_cost=0.01, bandwidth_bytes_per_s={"edge-c": 4 * MIB, "cloud-a": 4 * MIB},
)  # fmt: skip
EDGE_C = SiteFacts(
    "edge-c", "edge", cpu=1, memory_bytes=2 << 30, free_cpu=0, free_memory_bytes=1 << 30,
    capabilities=("isolated",), benchmark_hepscore23=10,
    bandwidth_bytes_per_s={"cloud-a": 4 * MIB, "hpc-b": 4 * MIB},
)  # fmt: skip
SCENARIOS = InputFacts("climate:scenarios", 12 * MIB, {"edge-c": 12 * MIB})


def demo(*sites: SiteFacts, request: Request = REQUEST) -> Ranked:
    return rank(request, Facts(sites, (SCENARIOS,)), Formula(RankingSettings()))


@pytest.mark.story("The facts that ship make `hpc-b` win")
def test_batch_site_wins_when_the_demo_asks_for_its_training() -> None:
    answer = demo(CLOUD_A, HPC_B, EDGE_C)
    assert [each.site for each in answer.candidates] == ["hpc-b", "cloud-a", "edge-c"]
    best, edge = answer.candidates[0], answer.candidates[2]
    assert whys(best)["data_locality"] == (
        "12.0 MiB of climate:scenarios come from edge-c at 4.0 MiB/s, 3 s"
    )
    assert whys(edge)["free_cpu"] == "0 of 1 cores are free, the job wants 1"
    assert best.score - answer.candidates[1].score > 0.005


@pytest.mark.story("give `edge-c` a free CPU: it wins, and no transfer is made")
def test_edge_wins_without_a_transfer_when_it_has_a_free_cpu() -> None:
    answer = demo(CLOUD_A, HPC_B, replace(EDGE_C, free_cpu=1))
    best = answer.candidates[0]
    assert best.site == "edge-c"
    assert best.factors[0].value == 0.0
    assert whys(best)["data_locality"].startswith("all inputs are here already")
    assert best.score - answer.candidates[1].score > 0.01


@pytest.mark.story(
    "Where user namespaces are denied a site does not advertise `isolated`, `hpc-b` is no"
    " candidate, `why` says so, training goes to `cloud-a`"
)
def test_cloud_wins_when_the_batch_site_runs_no_containers() -> None:
    bare = replace(HPC_B, capabilities=(), no_containers="bubblewrap: user namespaces are denied")
    answer = demo(CLOUD_A, bare, EDGE_C)
    assert [each.site for each in answer.candidates] == ["cloud-a", "edge-c"]
    (excluded,) = answer.excluded
    assert (excluded.site, excluded.reason) == ("hpc-b", Reason.NO_COMPUTE)
    assert excluded.detail == "it runs no containers: bubblewrap: user namespaces are denied"


def test_cloud_wins_when_the_batch_site_is_down() -> None:
    down = demo(CLOUD_A, replace(HPC_B, up=False), EDGE_C)
    assert down.candidates[0].site == "cloud-a"


def test_a_site_is_excluded_when_it_lacks_the_isolation_that_is_wanted() -> None:
    isolated = replace(REQUEST, capabilities=("isolated",))
    bare = replace(HPC_B, capabilities=("batch",))
    answer = demo(CLOUD_A, bare, EDGE_C, request=isolated)
    assert {each.site: each.reason for each in answer.excluded} == {
        "cloud-a": Reason.CAPABILITY,
        "hpc-b": Reason.CAPABILITY,
    }


def test_only_the_cloud_will_do_when_a_service_is_wanted() -> None:
    answer = demo(CLOUD_A, HPC_B, EDGE_C, request=replace(REQUEST, capabilities=("services",)))
    assert [each.site for each in answer.candidates] == ["cloud-a"]


SITES = st.builds(
    SiteFacts,
    name=st.sampled_from(["a", "b", "c", "d", "e"]),
    up=st.sampled_from([True, False, None]),
    stale=st.booleans(),
    share=st.floats(0, 1),
    cpu=st.floats(0, 1000),
    memory_bytes=st.integers(0, 1 << 40),
    free_cpu=st.none() | st.floats(0, 2000),
    free_memory_bytes=st.none() | st.integers(0, 1 << 40),
    free_slots=st.none() | st.integers(0, 9),
    queue_wait_s=st.none() | st.floats(0, 1e7),
    failure_rate=st.floats(0, 1),
    benchmark_hepscore23=st.floats(0.01, 1000),
    cpu_hour_cost=st.floats(0, 1000),
    bandwidth_bytes_per_s=st.dictionaries(st.sampled_from("abcde"), st.integers(1, 1 << 40)),
)
INPUTS = st.builds(
    InputFacts,
    st.just("s:d"),
    st.integers(0, 1 << 50),
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 1 << 50)),
)


@given(st.lists(SITES, unique_by=lambda site: site.name), st.lists(INPUTS, max_size=3), st.data())
def test_answer_is_whole_and_the_same_in_any_order(sites, inputs, data) -> None:
    shuffled = data.draw(st.permutations(sites))
    formula = Formula(RankingSettings())
    answer = rank(REQUEST, Facts(tuple(sites), tuple(inputs)), formula)
    assert answer == rank(REQUEST, Facts(tuple(shuffled), tuple(inputs)), formula)
    named = [each.site for each in (*answer.candidates, *answer.excluded)]
    assert sorted(named) == sorted(site.name for site in sites)
    for candidate in answer.candidates:
        assert 0 <= candidate.score <= 1
        shown = candidate.to_json()
        total = sum(factor["contribution"] for factor in shown["factors"])
        assert total == pytest.approx(shown["score"], abs=1e-5)
        assert all(0 <= factor.normalised <= 1 and factor.why for factor in candidate.factors)
    scores = [candidate.score for candidate in answer.candidates]
    assert all(first >= second - 1e-8 for first, second in pairwise(scores))
