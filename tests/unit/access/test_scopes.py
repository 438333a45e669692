"""Which path and which right a scope covers (WLCG profile 1.3)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.access.errors import TokenRefused
from twinfra.access.model import Principal
from twinfra.access.scopes import includes, permits_compute, split_scope
from twinfra.access.storage_scopes import is_plain, parse_storage_scope, permits

NOBODY = Principal("https://i", "alice", None, frozenset(), (), None, "", is_service=False)


def holder(*scopes):
    return replace(NOBODY, scopes=scopes)


@pytest.mark.parametrize(
    ("scope", "path", "allowed"),
    [
        ("storage.read:/", "/", True),
        ("storage.read:/", "/any/where", True),
        ("storage.read:/foo", "/foo", True),
        ("storage.read:/foo", "/foo/", True),
        ("storage.read:/foo", "/foo/bar", True),
        ("storage.read:/foo", "/foobar", False),
        ("storage.read:/foo", "/fo", False),
        ("storage.read:/foo", "/", False),
        ("storage.read:/foo/bar", "/foo/bargain", False),
        ("storage.read:/foo/", "/foo/bar", True),
        ("storage.read:/foo/", "/foo", False),
        ("storage.read:/foo/", "/foo/", True),
        ("storage.read:/Foo", "/foo", False),
        ("storage.read:/a%20b", "/a b/c", True),
        ("storage.read:/foo", "/foo/../bar", False),
        ("storage.read:/foo", "/foo/./bar", False),
        ("storage.read:/foo", "/foo//bar", False),
        ("storage.read:/foo", "foo/bar", False),
        ("storage.read:/foo", "/foo/\x00", False),
        ("storage.read:/foo", "/foo/a\\b", False),
        ("storage.read:/foo", "", False),
    ],
)
def test_path_is_covered_when_its_whole_components_are(scope, path, allowed):
    assert permits(holder(scope), "read", path) is allowed


@pytest.mark.parametrize(
    ("held", "actions"),
    [
        ("storage.read", {"read"}),
        ("storage.create", {"create"}),
        ("storage.modify", {"create", "modify"}),
        ("storage.stage", {"stage"}),
        ("storage.poll", {"poll"}),
        ("compute.read", set()),
    ],
)
def test_action_is_permitted_when_the_capability_includes_it(held, actions):
    principal = holder(f"{held}:/a")
    tried = ("read", "create", "modify", "stage", "poll")

    assert {action for action in tried if permits(principal, action, "/a/b")} == actions


def test_groups_permit_no_path_when_there_is_no_scope():
    assert not permits(replace(NOBODY, groups=frozenset({"climate"})), "read", "/climate")


def test_compute_action_is_permitted_when_it_is_named():
    principal = holder("compute.create", "compute.read:/x")

    assert permits_compute(principal, "create")
    assert not permits_compute(principal, "read")
    assert not permits_compute(principal, "cancel")


@pytest.mark.parametrize(
    ("granted", "wanted", "answer"),
    [
        (["storage.read:/a"], "storage.read:/a/b", True),
        (["storage.read:/a"], "storage.read:/ab", False),
        (["storage.read:/a/"], "storage.read:/a", False),
        (["storage.read:/a"], "storage.read:/a/", True),
        (["storage.read:/a/"], "storage.read:/a/", True),
        (["storage.modify:/a"], "storage.create:/a", True),
        (["storage.create:/a"], "storage.modify:/a", False),
        (["storage.modify:/"], "storage.read:/", False),
        (["compute.read"], "compute.read", True),
        (["compute.read"], "compute.create", False),
        (["storage.read:/a"], "storage.read:/a/../b", False),
        (["storage.read:/a"], "storage.read", False),
        (["storage.read"], "storage.read:/a", False),
        ([], "openid", False),
    ],
)
def test_scope_is_included_when_another_gives_all_of_it(granted, wanted, answer):
    assert includes(granted, wanted) is answer


PATH = st.lists(st.from_regex(r"[a-z0-9 ._-]{1,6}", fullmatch=True), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(PATH, PATH)
def test_included_scope_never_reaches_further_when_paths_are_random(outer, inner):
    """What the narrower scope permits, the wider one permits too."""
    if not (is_plain(outer) and is_plain(inner)):
        return
    from urllib.parse import quote

    wide, narrow = f"storage.read:{quote(outer)}", f"storage.read:{quote(inner)}"
    if includes([wide], narrow):
        for path in (inner, inner.rstrip("/") + "/x"):
            if permits(holder(narrow), "read", path):
                assert permits(holder(wide), "read", path)


@given(st.text(max_size=30))
def test_scope_is_refused_or_plain_when_the_path_is_anything(path):
    try:
        scope = parse_storage_scope("storage.read:" + path)
    except TokenRefused:
        return
    assert is_plain(scope.path)


def test_scopes_come_once_and_in_order_when_split():
    assert split_scope("b a  b\tc") == ("b", "a", "c")
    assert split_scope(None) == ()
