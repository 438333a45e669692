"""One structured line for each decision about who may do what.

The line names the person, the program, the action, the resource and the decision, never the token.
"""

import hashlib
from typing import Any, Literal

from twinfra.access.model import Principal
from twinfra.core.telemetry import get_logger

Decision = Literal["allowed", "denied"]
log = get_logger("twinfra.audit")


def audit(
    action: str, principal: Principal | None, decision: Decision, resource: str, **fields: Any
) -> None:
    """Write the audit line of one decision.

    Args:
        action: what was asked for, such as ``dataset.create``.
        principal: who asked; none if nobody could be made out.
        decision: what was answered.
        resource: on what, such as ``climate:model`` or a path.
        fields: more facts; values must hold no secret.
    """
    who: dict[str, Any] = {"iss": None, "sub": None, "client_id": None, "actor": None}
    if principal is not None:
        who = {
            "iss": principal.issuer,
            "sub": principal.sub,
            "client_id": principal.client_id,
            "actor": principal.actor,
            "credential": fingerprint(principal.token),
        }
    write = log.info if decision == "allowed" else log.warning
    write("access_decided", action=action, decision=decision, resource=resource, **who, **fields)


def fingerprint(token: str) -> str:
    """Return the first 16 hexadecimal digits of the token's SHA-256: finds it, does not give it."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]
