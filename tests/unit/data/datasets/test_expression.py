"""RSE expressions: the grammar, and what it means, against a reader written the other way round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.data.datasets.errors import InvalidRseExpression
from twinfra.data.datasets.model.expression import parse

STORAGES = {
    "EDGE-C": {"site": "edge-c", "type": "DISK", "region": "eu", "tier": 3, "fast": True},
    "HPC-B": {"site": "hpc-b", "type": "DISK", "region": "eu", "tier": "1"},
    "CLOUD-A": {"site": "cloud-a", "type": "DISK", "region": "us", "tier": 2, "fast": False},
    "VAULT": {"site": "vault", "type": "TAPE", "region": "eu"},
}
TERMS = {
    "*": set(STORAGES),
    "EDGE-C": {"EDGE-C"},
    "region=eu": {"EDGE-C", "HPC-B", "VAULT"},
    "type=DISK": {"EDGE-C", "HPC-B", "CLOUD-A"},
    "fast": {"EDGE-C"},
    "fast=False": {"CLOUD-A"},
    "tier<3": {"HPC-B", "CLOUD-A"},
    "tier>1": {"EDGE-C", "CLOUD-A"},
    "tier=1": {"HPC-B"},
    "site=edge-c": {"EDGE-C"},
    "NOWHERE": set(),
}
OPERATORS = {"|": set.__or__, "&": set.__and__, "\\": set.__sub__}


def select(text):
    return set(parse(text).select(STORAGES))


@pytest.mark.parametrize(("text", "meant"), TERMS.items())
def test_term_means_its_storages_when_it_stands_alone(text, meant):
    assert select(text) == meant


@st.composite
def expressions(draw, depth=3):
    """Give a text and what it means, read from the left."""
    text, meant = draw(operands(depth))
    for _ in range(draw(st.integers(0, 4))):
        operator = draw(st.sampled_from(sorted(OPERATORS)))
        right_text, right = draw(operands(depth))
        text, meant = f"{text}{operator}{right_text}", OPERATORS[operator](meant, right)
    return text, meant


@st.composite
def operands(draw, depth):
    if depth and draw(st.booleans()):
        text, meant = draw(expressions(depth=depth - 1))
        return f"({text})", meant
    return draw(st.sampled_from(sorted(TERMS.items())))


@given(expressions())
def test_operators_bind_from_the_left_when_there_are_no_parentheses(expression):
    text, meant = expression
    assert select(text) == meant


@given(expressions(), expressions())
def test_union_is_symmetric_and_intersection_within_both(left, right):
    (a, left_set), (b, right_set) = left, right
    assert select(f"({a})|({b})") == select(f"({b})|({a})") == left_set | right_set
    assert select(f"({a})&({b})") <= left_set
    assert select(f"({a})\\({b})") | select(f"({a})&({b})") == left_set


@given(st.text(alphabet="AB*=<>|&\\()x1-. ", max_size=40))
def test_any_text_is_read_or_refused_but_never_breaks(text):
    try:
        found = parse(text)
    except InvalidRseExpression:
        return
    assert found.select(STORAGES) <= set(STORAGES)


@pytest.mark.parametrize(
    "text",
    [
        "", "|", "A|", "A&&B", "(A", "A)", "A B", "a=", "a=b=c", "tier<x", "region=e.u", "!A",
        "A--B", "A|(B", "()", "tier<=2", "a!=b", "x" * 4000, "(" * 60 + "A" + ")" * 60,
    ],
)  # fmt: skip
def test_expression_is_refused_when_it_breaks_the_grammar(text):
    with pytest.raises(InvalidRseExpression):
        parse(text)


def test_error_says_where_when_an_expression_is_wrong():
    with pytest.raises(InvalidRseExpression, match="character 7"):
        parse("EDGE-C;HPC-B")


def test_precedence_is_rucios_when_operators_are_mixed():
    assert select("HPC-B|EDGE-C&region=us") == set()
    assert select("HPC-B|(EDGE-C&region=eu)") == {"HPC-B", "EDGE-C"}
