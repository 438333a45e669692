"""Group membership as issuers spell it: WLCG groups, AARC-G069 entitlements, Keycloak's paths.

Pure. All become names without a leading slash. What does not parse is ignored: it never grants, and
it never fails a login.

Source: WLCG Common JWT Profile 1.3; AARC-G069 (groups), RFC 8141 (URN equality).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CLAIMS = ("wlcg.groups", "entitlements", "eduperson_entitlement", "groups")
MEMBER = "member"
_GROUP_PART = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_NID = re.compile(r"[a-z0-9][a-z0-9-]{0,30}[a-z0-9]", re.IGNORECASE)
# pchar of RFC 3986 without the colon, which separates
_PART = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One group membership of AARC-G069; equal where the guideline says so, authority apart."""

    namespace: str
    groups: tuple[str, ...]
    role: str | None

    @property
    def path(self) -> str:
        """The group and its subgroups joined by slashes."""
        return "/".join(self.groups)


def parse_entitlement(text: str) -> Entitlement | None:
    """Return the group membership that `text` states, or none if it states none.

    Scheme, namespace identifier and namespace compare without case and are lowered here; groups and
    roles keep theirs; percent-encodings stay, their digits upper-cased; the authority is left out.
    """
    parts = text.partition("#")[0].split(":")
    if len(parts) < 5 or parts[0].lower() != "urn" or not _NID.fullmatch(parts[1]):
        return None
    if not all(_PART.fullmatch(part) for part in parts[2:]) or "group" not in parts[3:]:
        return None
    at = parts.index("group", 3)
    tail = [_ESCAPE.sub(lambda found: found[0].upper(), part) for part in parts[at + 1 :]]
    role = None
    if tail and tail[-1].startswith("role="):
        role = tail.pop().removeprefix("role=")
    if not tail or role == "" or any(part.startswith("role=") for part in tail):
        return None
    return Entitlement(":".join(parts[:at]).lower(), tuple(tail), role)


def format_entitlement(namespace: str, group: str, *, role: str = MEMBER, authority: str) -> str:
    """Spell a membership of `group` (``a/b`` is b below a) as AARC-G069 does."""
    return f"{namespace}:group:{':'.join(group.split('/'))}:role={role}#{authority}"


def read_groups(claims: Mapping[str, Any], only: str | None = None) -> tuple[str, ...]:
    """Return the groups that `claims` state, without leading slash, each once, in their order.

    Args:
        claims: of a verified token.
        only: the one claim to read; may be a path into objects, such as ``realm_access.roles``.
            None reads every claim of `CLAIMS`.
    """
    found: dict[str, None] = {}
    for claim in (only,) if only else CLAIMS:
        for text in _strings(_claim(claims, claim)):
            if (name := _group(text)) is not None:
                found[name] = None
    return tuple(found)


def _group(text: str) -> str | None:
    if text.lower().startswith("urn:"):
        entitlement = parse_entitlement(text)
        if entitlement is None or entitlement.role not in {None, MEMBER}:
            return None
        parts: Iterable[str] = entitlement.groups
    else:
        parts = text.removeprefix("/").split("/")
    parts = tuple(parts)
    return "/".join(parts) if all(_GROUP_PART.fullmatch(part) for part in parts) else None


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
