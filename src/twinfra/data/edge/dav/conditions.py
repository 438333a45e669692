"""Conditional requests: what must be so before anything is done; pure. Source: RFC 9110 §13."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime

from twinfra.data.edge.model import Version
from twinfra.data.edge.wire.errors import HttpRefusal


def http_date(nanoseconds: int) -> str:
    """Return the HTTP date of a time in nanoseconds since 1970."""
    return formatdate(nanoseconds // 1_000_000_000, usegmt=True)


def check(headers: Mapping[str, str], version: Version | None, *, reading: bool) -> None:
    """Let a request pass whose conditions hold.

    Args:
        headers: of the request.
        version: of what is there; none if nothing is.
        reading: a GET or HEAD, which may be answered by 304.

    Raises:
        HttpRefusal: 304 or 412.
    """
    if (wanted := headers.get("if-match")) is not None:
        if not _matches(wanted, version):
            raise HttpRefusal(412, "it is not what you expect (If-Match)")
    elif (limit := _moment(headers.get("if-unmodified-since"))) and _is_newer(version, limit):
        raise HttpRefusal(412, "it has changed since (If-Unmodified-Since)")
    unchanged = [("ETag", version.etag)] if version else []
    if (unwanted := headers.get("if-none-match")) is not None:
        if _matches(unwanted, version, weakly=True):
            if reading:
                raise HttpRefusal(304, headers=unchanged)
            raise HttpRefusal(412, "it is there (If-None-Match)")
    elif reading and version is not None:
        since = _moment(headers.get("if-modified-since"))
        if since is not None and not _is_newer(version, since):
            raise HttpRefusal(304, headers=unchanged)


def range_holds(headers: Mapping[str, str], version: Version) -> bool:
    """Say whether a ``Range`` counts: its ``If-Range``, if there is one, fits exactly."""
    wanted = headers.get("if-range")
    if wanted is None:
        return True
    if wanted.startswith(('"', "W/")):
        return wanted == version.etag
    moment = _moment(wanted)
    return moment is not None and _second(version) == moment


def _matches(field: str, version: Version | None, *, weakly: bool = False) -> bool:
    if version is None:
        return False
    if field.strip() == "*":
        return True
    tags = [tag.strip() for tag in field.split(",")]
    if weakly:
        tags = [tag.removeprefix("W/") for tag in tags]
    return version.etag in tags


def _is_newer(version: Version | None, moment: datetime) -> bool:
    return version is not None and _second(version) > moment


def _second(version: Version) -> datetime:
    return datetime.fromtimestamp(version.mtime_ns // 1_000_000_000, UTC)


def _moment(field: str | None) -> datetime | None:
    if not field:
        return None
    try:
        moment = parsedate_to_datetime(field)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
