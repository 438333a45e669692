"""Usage records: who used how much of what, where and for which twin. Pure values and rules.

One internal record a use, with an id that its producer mints and never changes; the formats of the
field (APEL, StAR) are projections in ``messages``. The unit ends every quantity's name.

Source: OGF GFD.204 (usage record) for the words; APEL job message v0.3 for the job's fields.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from twinfra.core.errors import InvalidRequest

Kind = Literal["job", "storage", "transfer"]
KINDS: tuple[Kind, ...] = ("job", "storage", "transfer")
WITHHELD = "withheld"
FUTURE_LIMIT = timedelta(days=2)
MAX_BYTES = 2**60
MAX_SECONDS = 10**9
MAX_COUNT = 10**7
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _one_line(text: str) -> str:
    """Refuse what would break the framing of a message: controls and ``%%``."""
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    if "%%" in text:
        raise ValueError("'%%' is not allowed: it separates records of a message")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_one_line)]
Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES, strict=True)]
Seconds = Annotated[int, Field(ge=0, le=MAX_SECONDS, strict=True)]
CpuSeconds = Annotated[int, Field(ge=0, le=MAX_SECONDS * 1000, strict=True)]
Count = Annotated[int, Field(ge=0, le=MAX_SECONDS, strict=True)]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT, strict=True)]
Amount = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
Status = Annotated[int, Field(ge=-(2**31), lt=2**31)]


@dataclass(frozen=True, slots=True)
class Person:
    """Who used it: never a name or a mail address, always issuer and subject."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    iss: Text
    sub: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What every usage record says.

    Attributes:
        id: minted by the producer; sending it again changes nothing.
        site: where it was used, as in the catalogue.
        person: on whose behalf; none for a service's own use.
        group: on whose account.
        deployment: the deployment (twin) that it was for.
        node: the node template of that deployment.
        started_at: when the use began; for a measurement, when its interval did.
        ended_at: when it ended; decides the month that it counts in.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    id: Text
    site: Text
    started_at: AwareDatetime
    ended_at: AwareDatetime
    person: Person | None = None
    group: Text | None = None
    deployment: Text | None = None
    node: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUsage(Usage):
    """One attempt of one job that has ended.

    Attributes:
        local_job_id: the back end's native id, prefixed by its cluster where ids could repeat.
        wall_s: elapsed time.
        cpu_s: processor time, over all processors.
        processors: processors allocated.
        nodes: nodes allocated.
        gpus: GPUs allocated; a shared one is a fraction.
        memory_peak_bytes: most resident memory, where measured.
        benchmark_hepscore23: score of one processor there; none: the site's setting counts.
        queue: partition or queue.
        submit_host: where it was submitted, such as ``host:port/queue``.
        machine_name: host of the batch system.
        local_user: the account that it ran under.
        image: container image, by digest.
        attempt: number of the attempt, from 1.
        exit_code: of the job, where it had one.
    """

    kind: Literal["job"] = "job"
    local_job_id: Text
    wall_s: Seconds
    cpu_s: CpuSeconds
    processors: Positive = 1
    nodes: Positive = 1
    gpus: Amount = 0.0
    memory_peak_bytes: Bytes | None = None
    benchmark_hepscore23: Annotated[float, Field(gt=0, le=1e6)] | None = None
    queue: Text | None = None
    submit_host: Text | None = None
    machine_name: Text | None = None
    local_user: Text | None = None
    image: Text | None = None
    attempt: Positive = 1
    exit_code: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageUsage(Usage):
    """What lay on a storage at `ended_at`, for one person, group and deployment.

    Attributes:
        rse: the storage element.
        used_bytes: occupied, replicas counted each.
        allocated_bytes: reserved, where that differs.
        file_count: files.
        media: ``disk`` or ``tape``.
        path: the folder it counts, if not all.
    """

    kind: Literal["storage"] = "storage"
    rse: Text
    used_bytes: Bytes
    allocated_bytes: Bytes | None = None
    file_count: Count | None = None
    media: Text = "disk"
    path: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferUsage(Usage):
    """Bytes that were moved between two sites, by one transfer or by several summed up.

    Attributes:
        source_site: where they came from; none: from outside the federation.
        dest_site: where they went.
        size_bytes: payload moved, failed attempts included.
        duration_s: time of moving.
        file_count: files that arrived.
        protocol: such as ``https``.
        transfer_id: the transfer service's job.
    """

    kind: Literal["transfer"] = "transfer"
    source_site: Text | None = None
    dest_site: Text | None = None
    size_bytes: Bytes
    duration_s: Amount = 0.0
    file_count: Count = 1
    protocol: Text = "https"
    transfer_id: Text | None = None


UsageRecord = JobUsage | StorageUsage | TransferUsage
_ADAPTER: TypeAdapter[UsageRecord] = TypeAdapter(
    Annotated[UsageRecord, Field(discriminator="kind")]
)


def to_json(record: UsageRecord) -> dict[str, Any]:
    """Return `record` as the JSON object of the wire; what is none is left out."""
    found: dict[str, Any] = _ADAPTER.dump_python(record, mode="json", exclude_none=True)
    return found


def from_json(data: Mapping[str, Any]) -> UsageRecord:
    """Return the record that `data` states.

    Raises:
        InvalidRequest: a field is unknown, missing or out of its range; `errors` lists each.
    """
    try:
        return _ADAPTER.validate_python(dict(data))
    except ValidationError as error:
        faults = [
            {"field": ".".join(map(str, entry["loc"])), "detail": entry["msg"]}
            for entry in error.errors(include_url=False, include_input=False)
        ]
        named = "; ".join(f"{fault['field']}: {fault['detail']}" for fault in faults)
        raise InvalidRequest(f"not a usage record: {named}", errors=faults) from error


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a record."""
    return _ADAPTER.json_schema()


def faults(record: UsageRecord, now: datetime) -> Iterator[str]:
    """Give the rules that `record` breaks, taken by itself at `now`."""
    if record.ended_at < record.started_at:
        yield "ended_at is before started_at"
    if record.ended_at > now + FUTURE_LIMIT:
        yield "ended_at is more than two days ahead"


def month_of(record: UsageRecord) -> str:
    """Return the month that `record` counts in: of its end, in UTC, as ``YYYY-MM``."""
    return record.ended_at.astimezone(UTC).strftime("%Y-%m")


def size_bytes_of(record: UsageRecord) -> int:
    """Return the bytes that `record` is about; 0 for jobs."""
    if isinstance(record, StorageUsage):
        return record.used_bytes
    return record.size_bytes if isinstance(record, TransferUsage) else 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one record of a batch was not taken; sending it again will not help."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch.

    Attributes:
        accepted: records that are new and are kept now.
        repeated: records that were there already, unchanged.
        rejected: records that are not kept, and why.
    """

    accepted: int = 0
    repeated: int = 0
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records are asked for; what is none does not narrow."""

    kind: Kind | None = None
    site: str | None = None
    group: str | None = None
    deployment: str | None = None
    sub: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def params(self) -> dict[str, str]:
        """Return the query parameters that say the same."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in named
            if value is not None
        }
