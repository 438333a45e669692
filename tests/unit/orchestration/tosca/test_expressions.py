"""Expressions resolve once attributes arrive; constraints and units keep their laws."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.orchestration.tosca import TemplateErrors, parse
from twinfra.orchestration.tosca.document import Tree
from twinfra.orchestration.tosca.expressions import (
    PENDING,
    Concat,
    GetAttribute,
    Join,
    Pick,
    Token,
    as_text,
    is_lazy,
    resolve,
)
from twinfra.orchestration.tosca.scalars import PRIMITIVES

ADDRESS = GetAttribute("vm", ("addresses", 0))
HEAD = "tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template:\n"


def test_every_function_waits_when_its_attribute_is_missing() -> None:
    waiting = [
        ADDRESS,
        Concat(("a", ADDRESS)),
        Join(["a", ADDRESS], ","),
        Token(ADDRESS, ".", 0),
        Pick(ADDRESS, ("x",)),
        {"a": [ADDRESS]},
    ]
    for each in waiting:
        assert is_lazy(each)
        assert resolve(each, {}) is PENDING
        assert resolve(each, {"vm": {"addresses": []}}) is PENDING


def test_every_function_gives_its_value_when_attributes_arrive() -> None:
    attributes = {"vm": {"addresses": ["192.0.2.1"], "tags": {"x": 1}}}
    assert resolve({"a": [ADDRESS, 2]}, attributes) == {"a": ["192.0.2.1", 2]}
    assert resolve(Concat(("ssh ", ADDRESS, 1, True)), attributes) == "ssh 192.0.2.11true"
    assert resolve(Join(["a", ["b", ADDRESS]], "-"), attributes) == "a-b-192.0.2.1"
    assert resolve(Token(ADDRESS, ".", 3), attributes) == "1"
    assert resolve(Token(ADDRESS, ".", 4), attributes) is PENDING
    assert resolve(Pick(GetAttribute("vm", ("tags",)), ("x",)), attributes) == 1


def test_values_are_spelt_plainly_when_they_become_text() -> None:
    assert [as_text(each) for each in (True, None, 2.0, 2.5, [1, "a"])] == [
        "true",
        "",
        "2",
        "2.5",
        '[1, "a"]',
    ]


@given(st.integers(0, 10**12), st.sampled_from(["B", "kB", "KiB", "MB", "MiB", "GB", "GiB"]))
def test_size_scales_by_its_unit_when_it_is_whole(number: int, unit: str) -> None:
    read = PRIMITIVES["scalar-unit.size"]
    assert read(Tree(f"{number} {unit}")) == number * read(Tree(f"1 {unit}"))
    assert read(Tree(f"{number}{unit.lower()}")) == read(Tree(f"{number} {unit}"))


@given(st.text(max_size=20))
def test_unit_is_read_or_refused_when_the_text_is_anything(text: str) -> None:
    for name in ("scalar-unit.size", "scalar-unit.time", "scalar-unit.bitrate", "version"):
        with contextlib.suppress(ValueError):
            assert PRIMITIVES[name](Tree(text)) is not None


def test_bits_and_bytes_differ_when_only_their_case_does() -> None:
    read = PRIMITIVES["scalar-unit.bitrate"]
    assert (read(Tree("1 Mbps")), read(Tree("1 MBps"))) == (1e6, 8e6)
    with pytest.raises(ValueError, match="'mbps' is not one of the units"):
        read(Tree("1 mbps"))


@given(st.integers(), st.integers(), st.integers())
def test_range_accepts_exactly_what_lies_in_it(value: int, low: int, high: int) -> None:
    low, high = sorted((low, high))
    if max(map(abs, (value, low, high))) >= 10**29:
        return
    text = f"{HEAD}  inputs: {{a: {{type: integer, constraints: [{{in_range: [{low}, {high}]}}]}}}}"
    try:
        made = parse(text, {"a": value})
    except TemplateErrors:
        assert not low <= value <= high
    else:
        assert low <= value <= high
        assert made.inputs["a"].value == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(JSON)
def test_supplied_value_is_never_read_as_a_function_when_it_looks_like_one(value: Any) -> None:
    text = HEAD + "  inputs: {a: {type: map}}\n  outputs: {b: {value: {get_input: a}}}\n"
    supplied = {"get_input": "a", "concat": [value], "inner": {"get_attribute": ["vm", "x"]}}
    assert parse(text, {"a": supplied}).outputs_with({}) == {"b": supplied}


@given(st.text(max_size=200) | st.text("{}[]:,&*!-? \n\"'ab<>", max_size=200))
def test_parse_answers_or_refuses_when_the_text_is_anything(text: str) -> None:
    for candidate in (text, HEAD + text):
        with contextlib.suppress(TemplateErrors):
            assert parse(candidate).version


@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=30))
def test_order_respects_every_edge_when_there_is_no_cycle(edges: list[tuple[int, int]]) -> None:
    kept = {(max(pair), min(pair)) for pair in edges if pair[0] != pair[1]}
    rows = [
        f"    n{node}: {{type: Compute, requirements: ["
        + ", ".join(f"{{dependency: n{to}}}" for start, to in sorted(kept) if start == node)
        + "]}\n"
        for node in range(14, -1, -1)
    ]
    order = list(parse(HEAD + "  node_templates:\n" + "".join(rows)).nodes)
    assert sorted(order) == sorted(f"n{node}" for node in range(15))
    for start, to in kept:
        assert order.index(f"n{to}") < order.index(f"n{start}")
