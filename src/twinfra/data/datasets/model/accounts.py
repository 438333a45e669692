"""Accounts and whose a scope is.

Pure. A person is (issuer, sub); the account is the short name that Rucio shows for them. A scope
named like a group is the group's; any other is its owner's.
"""

import hashlib
import re

from twinfra.data.datasets.errors import InvalidObject
from twinfra.data.datasets.model.names import ACCOUNT

LONGEST = 25
USER, SERVICE, GROUP = "USER", "SERVICE", "GROUP"
_ODD = re.compile(r"[^a-z0-9_-]+")


def account_name(sub: str, issuer: str, *, taken: bool = False) -> str:
    """Return the account name that a person or service gets.

    Args:
        sub: the subject; ``service:deployments`` becomes ``svc-deployments``.
        issuer: makes the name of a second person with the same `sub` another one.
        taken: the plain name belongs to somebody else.
    """
    plain = _ODD.sub("-", sub.lower().replace("service:", "svc-", 1)).strip("-_") or "account"
    if ACCOUNT.fullmatch(plain) and not taken:
        return plain
    digest = hashlib.sha256(f"{issuer}\x1f{sub}".encode()).hexdigest()[:8]
    return f"{plain[: LONGEST - 9].strip('-_')}-{digest}"


def scope_of_group(group: str) -> str:
    """Return the scope that belongs to `group`; ``climate/ocean`` has ``climate.ocean``."""
    return group.strip("/").replace("/", ".")


def identity_parts(identity: str) -> tuple[str, str]:
    """Read Rucio's spelling of an OIDC identity, ``SUB=…, ISS=…``, as (issuer, sub).

    Raises:
        InvalidObject: it is none.
    """
    found = re.fullmatch(r"\s*SUB=(?P<sub>[^,]+),\s*ISS=(?P<iss>\S+)\s*", identity)
    if found is None:
        raise InvalidObject(f"{identity!r} is not an identity such as SUB=alice, ISS=https://…")
    return found["iss"], found["sub"]


def identity_text(issuer: str, sub: str) -> str:
    """Spell an OIDC identity as Rucio does."""
    return f"SUB={sub}, ISS={issuer}"
