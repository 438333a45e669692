"""Signatures of webhooks, so that a sink knows who sent what and when; pure.

A subscription's secret follows from one key of the service and the subscription's id: it need not
be kept, and is the same after a restart.

Source: Standard Webhooks (webhook-id, webhook-timestamp, webhook-signature; ``v1`` is HMAC-SHA256).
"""

import base64
import hashlib
import hmac

PREFIX = "whsec_"
TOLERANCE_S = 300


def secret_of(key: str, subscription_id: str) -> str:
    """Return the secret of a subscription, as a sink is told it."""
    digest = hmac.new(key.encode(), f"webhook:{subscription_id}".encode(), hashlib.sha256)
    return PREFIX + base64.b64encode(digest.digest()).decode()


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def signed_headers(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers that a sink checks."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature(secret, message_id, timestamp_s, body),
    }


def is_genuine(secret: str, headers: dict[str, str], body: bytes, *, now_s: float) -> bool:
    """Say whether a delivery is ours and fresh; for sinks and their tests.

    Args:
        secret: of the subscription.
        headers: with lower-case names.
        body: as it came.
        now_s: the sink's clock; a delivery older than five minutes is not taken.
    """
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isdecimal() or abs(now_s - int(stamp)) > TOLERANCE_S:
        return False
    wanted = signature(secret, headers.get("webhook-id", ""), int(stamp), body)
    offered = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(wanted, each) for each in offered)
