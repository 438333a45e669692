"""Whose a Kubernetes pod is."""

import base64
import json

import pytest
from pydantic import ValidationError

from twinfra.access.model import Principal
from twinfra.access.workloads import WorkloadRule, is_of_pod, rule_for, service_account_of
from twinfra.compute.interlink.settings import WorkloadSettings

ISSUER = "https://cluster.example"
UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def principal(sub="system:serviceaccount:ml:robot", **claims):
    private = claims.get("private", {"pod": {"name": "p", "uid": UID}})
    body = {"iss": ISSUER, "sub": sub, "kubernetes.io": private}
    token = f"{part({'alg': 'RS256', 'kid': 'k'})}.{part(body)}.{part('s')}"
    return Principal(ISSUER, sub, None, frozenset(), (), None, token, is_service=False)


@pytest.mark.story("Forgery is tested: a token counts for its own pod only")
@pytest.mark.parametrize(
    ("claims", "uid", "namespace", "good"),
    [
        ({}, UID, "ml", True),
        ({}, "0" + UID[1:], "ml", False),
        ({}, UID, "other", False),
        ({"sub": "alice"}, UID, "ml", False),
        ({"sub": "system:serviceaccount:ml:"}, UID, "ml", False),
        ({"private": None}, UID, "ml", False),
        ({"private": {"pod": []}}, UID, "ml", False),
        ({"private": {"node": {"uid": UID}}}, UID, "ml", False),
    ],
)
def test_is_of_the_pod_only_when_account_and_uid_agree(claims, uid, namespace, good):
    assert is_of_pod(principal(**claims), uid=uid, namespace=namespace) is good


def test_first_fitting_rule_counts_when_several_are_there():
    rules = [
        WorkloadRule("https://other", "*", "*", "no"),
        WorkloadRule(ISSUER, "ml", "rob*", "climate"),
        WorkloadRule(ISSUER, "*", "*", "rest"),
    ]
    assert rule_for(principal(), rules).group == "climate"
    assert rule_for(principal("system:serviceaccount:ml:x"), rules).group == "rest"
    assert rule_for(principal("alice"), rules) is None
    assert service_account_of("system:serviceaccount:ml:robot") == ("ml", "robot")


PEOPLE = "https://people.example"


@pytest.mark.parametrize(
    ("creator", "group"),
    [
        (f"{PEOPLE}#alice", "climate"),
        (f"{PEOPLE}#al#ice", "climate"),
        (f"{PEOPLE}#bob", "rest"),
        ("https://elsewhere.example#alice", "rest"),
        (f"{PEOPLE}.evil#alice", "rest"),
        (f"{PEOPLE}#", "rest"),
        ("alice", "rest"),
        ("#alice", "rest"),
        ("", "rest"),
    ],
)
def test_rule_with_a_creator_fits_that_persons_stamp_alone(creator, group):
    rules = [
        WorkloadRule(ISSUER, group="climate", creator=f"{PEOPLE}#al*"),
        WorkloadRule(ISSUER, group="rest"),
    ]
    assert rule_for(principal(), rules, creator).group == group


def test_a_stamp_counts_only_of_the_cluster_that_the_rule_names():
    rules = [WorkloadRule("https://other", group="climate", creator=f"{PEOPLE}#*")]
    assert rule_for(principal(), rules, f"{PEOPLE}#alice") is None


@pytest.mark.parametrize("creator", ["alice", "https://*#alice", f"{PEOPLE}#", "http://p#a"])
def test_a_creator_without_an_issuer_is_no_setting(creator):
    with pytest.raises(ValidationError, match="ISSUER#SUBJECT"):
        WorkloadSettings(issuer=ISSUER, group="climate", creator=creator)
