"""What a keeper is told, as a file and back, and what it refuses to be told."""

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import twinfra.compute.containers.keeper as keeper_package
from twinfra.compute.containers.keeper import journal
from twinfra.compute.containers.keeper.checks import plan_faults
from twinfra.compute.containers.keeper.model import (
    ContainerPlan,
    ContainerStatus,
    HttpGet,
    Launch,
    Limits,
    PodPlan,
    PodState,
    Probe,
    Running,
    Terminated,
)

text = st.text(max_size=20)
launches = st.builds(
    Launch,
    prefix=st.lists(text).map(tuple),
    command=st.lists(text, min_size=1).map(tuple),
    env=st.dictionaries(text, text),
)
probes = st.builds(
    Probe,
    http=st.none() | st.builds(HttpGet, port=st.integers(), headers=st.just((("a", "b"),))),
    exec_command=st.none() | st.lists(text).map(tuple),
    period_s=st.floats(0, 100),
)
containers = st.builds(
    ContainerPlan,
    name=text,
    launch=launches,
    readiness=st.none() | probes,
    limits=st.builds(
        Limits, cpu=st.none() | st.floats(0, 10), memory_bytes=st.none() | st.integers()
    ),
)
plans = st.builds(
    PodPlan,
    uid=text,
    containers=st.lists(containers, max_size=3).map(tuple),
    active_deadline_s=st.none() | st.floats(0, 1e9),
)


@given(plans)
def test_a_plan_is_read_as_it_was_written(plan):
    assert journal.decode(PodPlan, journal.encode(plan)) == plan


def test_a_state_is_read_as_it_was_written():
    ended = Terminated(3, "Error", "a", "b", 9, "m")
    status = ContainerStatus("c", running=Running("t"), last_terminated=ended, restart_count=2)
    state = PodState("u", 1, 7, "Running", (status,), ready=True)
    assert journal.decode(PodState, journal.encode(state)) == state


def test_keys_of_a_later_version_are_passed_over():
    line = journal.encode(Running("t"))[:-1] + ',"new":{"a":1}}'
    assert journal.decode(Running, line) == Running("t")


@pytest.mark.parametrize(
    "line",
    [
        "", "x", "[]", "{}", '{"uid":1,"containers":[]}', '{"uid":"u"}', "null",
        '{"uid":"u","containers":{}}', '{"uid":"u","containers":[{"name":"c"}]}',
        '{"uid":"u","containers":[],"attempt":"1"}', '{"uid":"u","containers":[],"attempt":true}',
        '{"uid":"u","containers":[],"active_deadline_s":"x"}',
    ],
)  # fmt: skip
def test_something_else_is_malformed(line):
    with pytest.raises(journal.MalformedError):
        journal.decode(PodPlan, line)


def test_a_file_is_whole_or_absent_when_it_is_replaced(tmp_path):
    path = tmp_path / "state.json"
    assert journal.read(Running, path) is None
    for text_ in ("one", "two"):
        journal.write(path, Running(text_))
        assert journal.read(Running, path) == Running(text_)
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


GOOD = PodPlan("u-1", (ContainerPlan("main", Launch((), ("true",))),))


def with_container(**fields):
    return replace(GOOD, containers=(replace(GOOD.containers[0], **fields),))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (replace(GOOD, uid=""), "uid"),
        (replace(GOOD, uid="../x"), "uid"),
        (replace(GOOD, uid="a\nb"), "uid"),
        (replace(GOOD, attempt=0), "numbered"),
        (replace(GOOD, containers=()), "needs a container"),
        (replace(GOOD, network="bridge"), "network"),
        (replace(GOOD, isolated=False), "isolation"),
        (replace(GOOD, restart_policy="x"), "restart policy"),
        (replace(GOOD, hostname="a b"), "host name"),
        (replace(GOOD, schema=2), "schema"),
        (replace(GOOD, containers=GOOD.containers * 2), "same name"),
        (with_container(name="../up"), "container name"),
        (with_container(name=".."), "container name"),
        (with_container(launch=Launch((), ())), "no command"),
        (with_container(launch=Launch((), ("a\0b",))), "NUL"),
        (with_container(launch=Launch((), ("a",), inner_env={"A": "\0"})), "NUL"),
        (with_container(sidecar=True), "sidecar"),
        (with_container(readiness=Probe()), "probe"),
        (with_container(liveness=Probe(tcp_port=0)), "probe"),
        (with_container(startup=Probe(tcp_port=1, exec_command=("a",))), "probe"),
        (with_container(startup=Probe(tcp_port=1, period_s=0)), "probe"),
    ],
)
def test_a_faulty_plan_is_refused_with_the_reason(plan, said):
    (fault,) = plan_faults(plan)
    assert said in fault


def test_a_good_plan_has_no_fault():
    assert plan_faults(GOOD) == []


SOURCES = sorted(Path(keeper_package.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_keeper_speaks_python_3_9_and_the_standard_library_only(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] in sys.stdlib_module_names for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names
