"""Groups as issuers spell them (AARC-G069, WLCG, Keycloak)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.access.groups import format_entitlement, parse_entitlement, read_groups

NAME = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,10}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "namespace", "path", "role"),
    [
        ("urn:mace:egi.eu:group:vo.example#aai.egi.eu", "urn:mace:egi.eu", "vo.example", None),
        ("urn:mace:egi.eu:group:vo:sub:role=member#a", "urn:mace:egi.eu", "vo/sub", "member"),
        ("URN:MACE:EGI.EU:group:VO:Sub", "urn:mace:egi.eu", "VO/Sub", None),
        ("urn:geant:x:y:group:a%2fb:role=r", "urn:geant:x:y", "a%2Fb", "r"),
        ("urn:geant:x:group:group", "urn:geant:x", "group", None),
    ],
)
def test_entitlement_is_read_when_it_states_a_membership(text, namespace, path, role):
    found = parse_entitlement(text)

    assert (found.namespace, found.path, found.role) == (namespace, path, role)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "climate",
        "urn:geant:group:vo",
        "urn:geant:x:group",
        "urn:geant:x:group:",
        "urn:geant:x:group:role=member",
        "urn:geant:x:group:vo:role=",
        "urn:geant:x:group:vo:role=a:sub",
        "urn:geant:x:group:a b",
        "urn:geant:x:group::vo",
        "urn:geant:x:group:a/b",
        "urn:geant:x:res:storage:act:read#a",
        "urn:x_y:x:group:vo",
        "urn:mace:egi.eu:goc.egi.eu:1234:Site:Manager@egi.eu",
        "http:geant:x:group:vo",
        "urn:geant:x:group:a%zz",
    ],
)
def test_entitlement_is_ignored_when_it_states_no_membership(text):
    assert parse_entitlement(text) is None


def test_entitlements_are_equal_when_only_authority_and_case_of_the_namespace_differ():
    one = parse_entitlement("urn:mace:egi.eu:group:vo:role=member#one")
    two = parse_entitlement("URN:Mace:EGI.eu:group:vo:role=member#two")

    assert one == two
    assert one != parse_entitlement("urn:mace:egi.eu:group:VO:role=member")


@given(st.lists(NAME, min_size=1, max_size=4))
def test_entitlement_survives_when_spelled_and_read(parts):
    text = format_entitlement("urn:geant:x", "/".join(parts), authority="a.test")

    if "group" not in parts:
        assert parse_entitlement(text).groups == tuple(parts)


@given(st.text(max_size=80))
def test_reading_never_fails_when_the_text_is_anything(text):
    parse_entitlement("urn:geant:x:group:" + text)
    read_groups({"groups": [text, 5, None], "wlcg.groups": text, "entitlements": {"a": text}})


STYLES = {
    "wlcg": {"wlcg.groups": ["/climate", "/climate/ocean"]},
    "entitlements": {
        "entitlements": [
            "urn:geant:x:group:climate:role=member#a",
            "urn:geant:x:group:climate:ocean#a",
        ]
    },
    "egi": {
        "eduperson_entitlement": ["urn:mace:x:group:climate", "urn:mace:x:group:climate:ocean"]
    },
    "keycloak": {"groups": ["/climate", "/climate/ocean"]},
    "plain": {"groups": ["climate", "climate/ocean"]},
}


@pytest.mark.parametrize("style", STYLES)
def test_groups_are_the_same_when_issuers_spell_them_differently(style):
    assert read_groups(STYLES[style]) == ("climate", "climate/ocean")


def test_parent_is_not_implied_when_only_the_child_is_stated():
    assert read_groups({"wlcg.groups": ["/climate/ocean"]}) == ("climate/ocean",)


def test_role_other_than_member_gives_no_membership_when_alone():
    assert read_groups({"entitlements": ["urn:geant:x:group:climate:role=suspended"]}) == ()


def test_only_the_named_claim_counts_when_the_issuer_has_one():
    claims = {"groups": ["everyone"], "realm_access": {"roles": ["climate"]}, "a.b": ["x"]}

    assert read_groups(claims, "realm_access.roles") == ("climate",)
    assert read_groups(claims, "a.b") == ("x",)
    assert read_groups(claims, "realm_access.nothing.more") == ()


@pytest.mark.parametrize("bad", ["../a", "a//b", "", "/", "a b", "é", "-a", "a/"])
def test_group_is_ignored_when_its_name_is_not_plain(bad):
    assert read_groups({"groups": [bad]}) == ()
