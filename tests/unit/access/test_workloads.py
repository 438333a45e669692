"""Whose a Kubernetes pod is."""

import base64
import json

import pytest

from twinfra.access.model import Principal
from twinfra.access.workloads import WorkloadRule, is_of_pod, rule_for, service_account_of

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
