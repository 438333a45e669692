"""``/containerLogs``: the questions of ``kubectl logs``, asked of the site.

interLink knows fewer: no limit in lines and bytes at once, and no tail of zero. The rest is done
here, so that every combination means what it means on any node.

Source: Kubernetes API reference, ``PodLogOptions``; the texts are the kubelet's.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from twinfra.compute.interlink.client import LogRequest
from twinfra.compute.kubelet.door.errors import Refused
from twinfra.compute.kubelet.door.ports import DoorContainer, DoorPod, DoorSite
from twinfra.core.time import parse_rfc3339

TRUE, FALSE = (
    frozenset({"1", "t", "T", "true", "TRUE", "True"}),
    frozenset({"0", "f", "F", "false", "FALSE", "False", ""}),
)
WAITING_WORDS: Mapping[str, str] = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


@dataclass(frozen=True)
class LogOptions:
    """What a caller wants to read; None means no limit."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_s: int | None = None
    since_at: datetime | None = None


def options_of(query: Mapping[str, str]) -> LogOptions:
    """Read the query of a request.

    Raises:
        Refused: 400 a value is none of its kind; 422 values that make no sense.
    """
    tail = query.get("tail") or query.get("tailLines")
    try:
        since_time = query.get("sinceTime")
        made = LogOptions(
            follow=_flag(query.get("follow")),
            previous=_flag(query.get("previous")),
            timestamps=_flag(query.get("timestamps")),
            tail_lines=None if tail == "all" else _whole(tail),
            limit_bytes=_whole(query.get("limitBytes")),
            since_s=_whole(query.get("sinceSeconds")),
            since_at=parse_rfc3339(since_time) if since_time else None,
        )
    except ValueError as error:
        raise Refused(400, '{"message": "Unable to decode query."}') from error
    least = ((made.tail_lines, 0), (made.limit_bytes, 1), (made.since_s, 1))
    twice = made.since_s is not None and made.since_at is not None
    if twice or any(value is not None and value < low for value, low in least):
        raise Refused(422, '{"message": "Invalid request."}')
    if query.get("stream", "All") != "All":
        raise Refused(
            400, f'unable to return the given log stream: "{query["stream"]}": they are one here'
        )
    return made


def container_of(pod: DoorPod, name: str, options: LogOptions) -> DoorContainer:
    """Return the container whose log is wanted, if it can have one.

    Raises:
        Refused: 404 no such container; 400 it has not begun to write.
    """
    found = pod.container(name)
    if found is None or not name:
        raise Refused(404, f'container "{name}" not found in pod "{pod.name}"')
    who = f'container "{name}" in pod "{pod.name}"'
    if not found.state:
        raise Refused(400, f"{who} is not available")
    if options.previous and not found.ran_before:
        raise Refused(400, f"previous terminated {who} not found")
    if found.state == "waiting" and not found.ran_before:
        why = WAITING_WORDS.get(found.reason, found.reason)
        raise Refused(400, f"{who} is waiting to start: {why}")
    return found


async def lines_of(
    site: DoorSite, pod: DoorPod, container: str, options: LogOptions
) -> AsyncIterator[bytes]:
    """Yield what was asked for, as it comes.

    Raises:
        TwinfraError: the site refuses or is away.
    """
    wanted = LogRequest(
        namespace=pod.namespace,
        uid=pod.uid,
        pod_name=pod.name,
        container=container,
        tail_lines=options.tail_lines or 0,
        limit_bytes=(options.limit_bytes or 0) if options.tail_lines is None else 0,
        timestamps=options.timestamps,
        follow=options.follow,
        previous=options.previous,
        since_s=options.since_s or 0,
        since_at=options.since_at,
    )
    pieces = site.follow_logs(wanted)
    if options.tail_lines == 0:
        if not options.follow or options.previous:
            return
        pieces = _from_now_on(site, wanted)
    left = options.limit_bytes
    async with aclosing(pieces) as source:  # type: ignore[type-var] # both are generators
        async for piece in source:
            if left is None:
                yield piece
                continue
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return


async def _from_now_on(site: DoorSite, wanted: LogRequest) -> AsyncIterator[bytes]:
    """Yield the lines that come after the last one there is, by the site's own clock."""
    last = b""
    ending = replace(wanted, tail_lines=1, follow=False, timestamps=True, since_s=0, since_at=None)
    async with aclosing(site.follow_logs(ending)) as source:  # type: ignore[type-var] # as above
        async for piece in source:
            last += piece
    seen = last.rstrip(b"\n").rpartition(b"\n")[2].partition(b" ")[0]
    since = parse_rfc3339(seen.decode()) if seen else None
    going_on = replace(wanted, tail_lines=0, timestamps=True, since_s=0, since_at=since)
    rest = b""
    async with aclosing(site.follow_logs(going_on)) as source:  # type: ignore[type-var] # as above
        async for piece in source:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                at, _, text = line.partition(b" ")
                if at > seen:
                    yield (line if wanted.timestamps else text) + b"\n"


def _flag(value: str | None) -> bool:
    if value is None or value in FALSE:
        return False
    if value not in TRUE:
        raise ValueError(value)
    return True


def _whole(value: str | None) -> int | None:
    if value is None or value == "":
        return None
    if not value.removeprefix("-").isascii() or not value.removeprefix("-").isdigit():
        raise ValueError(value)
    number = int(value)
    if number >= 2**63:
        raise ValueError(value)
    return number
