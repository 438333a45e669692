"""How an API server is told which outside issuers of OpenID Connect it trusts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def outside_issuer(
    url: str,
    audiences: Sequence[str],
    *,
    cafile: Path | None = None,
    username_prefix: str = "",
    groups_claim: str | None = "groups",
    groups_prefix: str = "",
) -> dict[str, Any]:
    """Return one entry of ``jwt`` of the API server's structured authentication configuration.

    Args:
        url: the issuer; Kubernetes takes HTTPS only.
        audiences: a token for one of them is taken.
        cafile: of the issuer's certificate; None: one of the machine's authorities.
        username_prefix: before the claim ``sub``; Kubernetes' user name.
        groups_claim: names the person's groups; None: there is none.
        groups_prefix: before each group.

    Source: Kubernetes, apiserver.config.k8s.io/v1, JWTAuthenticator.
    """
    issuer: dict[str, Any] = {"url": url, "audiences": list(audiences)}
    if len(audiences) > 1:
        issuer["audienceMatchPolicy"] = "MatchAny"
    if cafile is not None:
        issuer["certificateAuthority"] = cafile.read_text(encoding="ascii")
    mappings: dict[str, Any] = {"username": {"claim": "sub", "prefix": username_prefix}}
    if groups_claim is not None:
        mappings["groups"] = {"claim": groups_claim, "prefix": groups_prefix}
    return {"issuer": issuer, "claimMappings": mappings}


def authentication_configuration(issuers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the whole configuration; the API server's own service accounts stand beside it."""
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": list(issuers),
    }
