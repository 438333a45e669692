"""The body of ``/getLogs``: which lines of which container are wanted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twinfra.compute.interlink.model.reading import (
    DNS_LABEL,
    INVALID_BODY,
    UID,
    Json,
    as_object,
    first,
    flag,
    text,
    whole,
)
from twinfra.core.errors import InvalidRequest
from twinfra.core.time import parse_rfc3339, rfc3339

ZERO_TIME = "0001-01-01T00:00:00Z"
TAIL_AND_BYTES = "Both Tail and LimitBytes set. Set only one of them"
SINCE_AND_SINCE = "Both SinceSeconds and SinceTime set. Set only one of them"


@dataclass(frozen=True)
class LogRequest:
    """Which lines of which container; zero and None mean no limit."""

    namespace: str
    uid: str
    pod_name: str
    container: str = ""
    tail_lines: int = 0
    limit_bytes: int = 0
    timestamps: bool = False
    follow: bool = False
    previous: bool = False
    since_s: int = 0
    since_at: datetime | None = None

    @classmethod
    def from_wire(cls, value: Any) -> "LogRequest":
        """Read and check a request for logs.

        Raises:
            InvalidRequest: with the text that upstream's server answers for each fault.
        """
        try:
            body = as_object(value, "body")
            opts = as_object(body.get("Opts") or {}, "Opts")
            request = cls(
                namespace=text(body.get("Namespace"), "Namespace"),
                uid=text(body.get("PodUID"), "PodUID"),
                pod_name=text(body.get("PodName"), "PodName"),
                container=text(body.get("ContainerName"), "ContainerName"),
                tail_lines=whole(opts.get("Tail"), "Tail"),
                limit_bytes=whole(first(opts, ("Bytes", "LimitBytes")), "Bytes"),
                timestamps=flag(opts.get("Timestamps"), "Timestamps"),
                follow=flag(opts.get("Follow"), "Follow"),
                previous=flag(opts.get("Previous"), "Previous"),
                since_s=whole(opts.get("SinceSeconds"), "SinceSeconds"),
                since_at=_moment(opts.get("SinceTime")),
            )
        except (InvalidRequest, ValueError) as error:
            raise InvalidRequest(INVALID_BODY) from error
        request.check()
        return request

    def check(self) -> None:
        """Refuse names that are none and options that exclude each other.

        Raises:
            InvalidRequest: with the text that upstream's server answers.
        """
        if not DNS_LABEL.fullmatch(self.namespace):
            raise InvalidRequest("invalid namespace: must be a valid DNS label")
        if not UID.fullmatch(self.uid):
            raise InvalidRequest("invalid pod UID: must be a valid UUID")
        if self.container and not DNS_LABEL.fullmatch(self.container):
            raise InvalidRequest("invalid container name: must be a valid DNS label")
        if self.tail_lines and self.limit_bytes:
            raise InvalidRequest(TAIL_AND_BYTES)
        if self.since_s and self.since_at is not None:
            raise InvalidRequest(SINCE_AND_SINCE)

    def to_wire(self) -> Json:
        """Return the JSON object of the published structure."""
        return {
            "Namespace": self.namespace,
            "PodUID": self.uid,
            "PodName": self.pod_name,
            "ContainerName": self.container,
            "Opts": {
                "Tail": self.tail_lines,
                "Bytes": self.limit_bytes,
                "Timestamps": self.timestamps,
                "Follow": self.follow,
                "Previous": self.previous,
                "SinceSeconds": self.since_s,
                "SinceTime": ZERO_TIME if self.since_at is None else rfc3339(self.since_at),
            },
        }


def _moment(value: Any) -> datetime | None:
    """Read Go's time: its zero means that none is set."""
    spelled = text(value, "SinceTime")
    if not spelled or spelled.startswith("0001-01-01T00:00:00"):
        return None
    return parse_rfc3339(spelled)
