"""The error tree and its problem details."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.core.errors import BY_STATUS, TYPE_BASE, Conflict, Unavailable, problem, shorten

RETRYABLE = {429, 503}


def test_each_status_has_one_family_when_all_are_listed():
    assert sorted(BY_STATUS) == [400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504, 507]
    assert len({leaf.code for leaf in BY_STATUS.values()}) == len(BY_STATUS)


@pytest.mark.parametrize("status", sorted(BY_STATUS))
def test_problem_has_every_member_when_an_error_of_a_family_is_spelt(status):
    leaf = BY_STATUS[status]
    body = problem(leaf("it broke"), instance="/x", trace_id="0" * 32)
    assert body == {
        "type": TYPE_BASE + leaf.code,
        "title": leaf.title,
        "status": status,
        "detail": "it broke",
        "code": leaf.code,
        "retryable": status in RETRYABLE,
        "instance": "/x",
        "trace_id": "0" * 32,
    }


def test_problem_leaves_out_what_is_not_known_when_there_is_no_request():
    assert {"instance", "trace_id", "errors"}.isdisjoint(problem(Conflict("no")))


def test_problem_never_shows_the_context_when_there_is_one():
    error = Unavailable("away", context={"host": "inner.example"}, retry_after_s=3)
    assert "inner.example" not in str(problem(error))
    assert (error.context, error.retry_after_s) == ({"host": "inner.example"}, 3)


def test_fields_are_listed_when_several_are_wrong():
    entries = [{"field": "a", "detail": "too big"}, {"field": "b", "detail": "missing"}]
    error = Conflict("no", errors=entries)
    entries[0]["detail"] = "changed afterwards"
    assert problem(error)["errors"] == [
        {"field": "a", "detail": "too big"},
        {"field": "b", "detail": "missing"},
    ]


@given(st.text(), st.integers(1, 300))
def test_foreign_text_is_one_short_line_when_it_is_anything(text, limit):
    cut = shorten(text, limit)
    assert len(cut) <= limit
    assert len(cut.splitlines()) <= 1
    assert "\t" not in cut
