"""The one error tree of twinfra; containers add leaves in their own ``errors.py``.

    TwinfraError
    ├── InvalidRequest        400  invalid-request
    ├── Unauthenticated       401  unauthenticated
    ├── InsufficientScope     403  insufficient-scope
    ├── NotFound              404  not-found
    ├── Conflict              409  conflict
    ├── SiteRejected          422  site-rejected
    ├── RateLimited           429  rate-limited            (retryable)
    ├── InternalError         500  internal-error
    ├── UpstreamFault         502  upstream-fault
    ├── Unavailable           503  unavailable             (retryable)
    ├── UpstreamTimeout       504  upstream-timeout        (retry only what is idempotent)
    └── InsufficientCapacity  507  insufficient-capacity

A class says what kind of trouble it is, its HTTP status and whether trying again may help; an
instance says what happened. Knows no HTTP framework: ``core.http`` turns it into an answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

FOREIGN_TEXT_LIMIT = 256
TYPE_BASE = "https://twinfra.dev/errors/"


def shorten(text: str, limit: int = FOREIGN_TEXT_LIMIT) -> str:
    """Cut foreign text to `limit` characters, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


class TwinfraError(Exception):
    """The root of all errors that twinfra raises on purpose.

    Args:
        detail: what happened, for the caller; one sentence.
        context: what only the log should see.
        retry_after_s: seconds after which trying again makes sense.
        errors: one entry per faulty field, each a mapping with at least ``detail``.
    """

    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something broke"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        context: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context = dict(context or {})
        self.retry_after_s = retry_after_s
        self.errors = tuple(dict(entry) for entry in errors)


class InvalidRequest(TwinfraError):
    """The request cannot be understood or breaks a rule; nothing was done."""

    code, title, status = "invalid-request", "The request is not valid", 400


class Unauthenticated(TwinfraError):
    """No token, or one that does not prove who calls; the detail says why."""

    code, title, status = "unauthenticated", "Who are you?", 401


class InsufficientScope(TwinfraError):
    """The caller is known and may not do this."""

    code, title, status = "insufficient-scope", "This is not allowed", 403


class NotFound(TwinfraError):
    """The thing does not exist, or the caller may not know of it."""

    code, title, status = "not-found", "There is no such thing", 404


class Conflict(TwinfraError):
    """The state of the thing forbids this now."""

    code, title, status = "conflict", "The state forbids this", 409


class SiteRejected(TwinfraError):
    """A site understood the job and will not run it."""

    code, title, status = "site-rejected", "The site refused", 422


class RateLimited(TwinfraError):
    """Too much at once; try again later."""

    code, title, status, retryable = "rate-limited", "Too many requests", 429, True


class InternalError(TwinfraError):
    """Our bug."""


class UpstreamFault(TwinfraError):
    """A neighbour answered with a fault of its own."""

    code, title, status = "upstream-fault", "A neighbour failed", 502


class Unavailable(TwinfraError):
    """Not now; the neighbour or the resource is away."""

    code, title, status, retryable = "unavailable", "Not available now", 503, True


class UpstreamTimeout(TwinfraError):
    """A neighbour did not answer in time; whether it acted is unknown."""

    code, title, status = "upstream-timeout", "A neighbour was too slow", 504


class InsufficientCapacity(TwinfraError):
    """There is no room for this."""

    code, title, status = "insufficient-capacity", "There is not enough room", 507


BY_STATUS: Mapping[int, type[TwinfraError]] = {
    cls.status: cls
    for cls in (
        InvalidRequest,
        Unauthenticated,
        InsufficientScope,
        NotFound,
        Conflict,
        SiteRejected,
        RateLimited,
        InternalError,
        UpstreamFault,
        Unavailable,
        UpstreamTimeout,
        InsufficientCapacity,
    )
}


def problem(
    error: TwinfraError, *, instance: str | None = None, trace_id: str | None = None
) -> dict[str, Any]:
    """Return the problem-details body of `error`.

    Source: RFC 9457 §3.1; ``code``, ``retryable``, ``trace_id``, ``errors`` are extensions (§3.2).
    """
    body: dict[str, Any] = {
        "type": TYPE_BASE + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "retryable": error.retryable,
    }
    if instance is not None:
        body["instance"] = instance
    if trace_id is not None:
        body["trace_id"] = trace_id
    if error.errors:
        body["errors"] = [dict(entry) for entry in error.errors]
    return body
