"""What an API server refuses, in our tree.

    TwinfraError
    ├── Gone           410  gone            the version asked for is no longer kept: list again
    ├── AlreadyExists  409  already-exists  (a Conflict)
    └── Invalid        422  invalid-object  (an InvalidRequest): validation or an admission policy

All else is a leaf of ``twinfra.core.errors``; a ``conflict`` is a stale write: read and try again.
"""

from collections.abc import Mapping

import msgspec

from twinfra.core.errors import (
    BY_STATUS,
    Conflict,
    InvalidRequest,
    TwinfraError,
    Unavailable,
    UpstreamFault,
    shorten,
)

TEXT_LIMIT = 1024


class Gone(TwinfraError):
    """The version asked for is no longer kept; list again."""

    code, title, status, retryable = "gone", "No longer kept", 410, True


class AlreadyExists(Conflict):
    """An object of this name is there."""

    code, title = "already-exists", "It exists already"


class Invalid(InvalidRequest):
    """The object breaks a rule of its type or of an admission policy."""

    code, title, status = "invalid-object", "The object is not valid", 422


class Refusal(msgspec.Struct):
    """The fields of a ``metav1.Status`` that matter."""

    code: int = 0
    reason: str = ""
    message: str = ""


_DECODER = msgspec.json.Decoder(Refusal)


def read_refusal(body: bytes) -> Refusal:
    """Read a ``metav1.Status``; other bodies become its message."""
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError:
        return Refusal(message=body.decode("utf-8", "replace"))


def error_of(status: int, body: bytes, what: str, headers: Mapping[str, str]) -> TwinfraError:
    """Return the error that fits an answer of an API server.

    Args:
        status: of the answer.
        body: of the answer; a ``metav1.Status`` mostly.
        what: was asked for, as method and path.
        headers: of the answer.
    """
    refusal = read_refusal(body)
    after = headers.get("Retry-After", "")
    text = shorten(refusal.message, TEXT_LIMIT) or f"{what}: {status}"
    return _leaf(status, refusal.reason)(
        text,
        context={"request": what, "status": status},
        retry_after_s=float(after) if after.isdigit() else None,
    )


def _leaf(status: int, reason: str) -> type[TwinfraError]:
    if status == 410:
        return Gone
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExists
    if status == 422:
        return Invalid
    if status == 500:  # an API server says so of a lost etcd and of a failing webhook
        return Unavailable
    if status in BY_STATUS:
        return BY_STATUS[status]
    return UpstreamFault if status >= 500 or status < 400 else InvalidRequest
