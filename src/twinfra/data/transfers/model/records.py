"""Jobs and files as they are kept, and the small rules about them."""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinfra.core.ids import uuid_in
from twinfra.data.transfers.model.checksums import ADLER32, Checksum, parse_checksum
from twinfra.data.transfers.model.states import FileState, JobState
from twinfra.data.transfers.model.submission import TransferParams, parse_params

BASE_ID = "6a1d6f0c-0a4e-5d0b-9f0c-5b3f6a4d1e27"
"""The root of deterministic job ids of this implementation; ``/whoami`` shows it."""


@dataclass(frozen=True)
class Owner:
    """Whose job it is: the person (or service) of the token that submitted it."""

    issuer: str
    sub: str
    vo: str
    client_id: str | None = None
    actor: str | None = None
    is_service: bool = False

    @property
    def delegation_id(self) -> str:
        """Return FTS's short id of an identity: 16 hexadecimal digits, stable."""
        return uuid_in(BASE_ID, f"{self.issuer}\x1f{self.sub}").replace("-", "")[:16]


@dataclass(frozen=True)
class Job:
    """A job as it is kept; ``params`` are FTS's spelling."""

    job_id: str
    state: JobState
    kind: str
    priority: int
    owner: Owner
    params: dict[str, Any]
    reason: str | None
    submitted_at: datetime
    finished_at: datetime | None = None

    @property
    def options(self) -> TransferParams:
        """Return the options of the job."""
        return parse_params(self.params)

    @property
    def metadata(self) -> Any:
        """Return the job's metadata, verbatim."""
        return self.params.get("job_metadata")


@dataclass(frozen=True)
class TransferFile:
    """One alternative of one wanted file.

    ``attempt`` counts the tries of this source from 1; ``copying`` says that the copy of this
    attempt was ordered, ``ours`` that a try for this file found no destination before it began.
    """

    file_id: int
    job_id: str
    file_index: int
    alternative: int
    source_url: str
    dest_url: str
    link: str
    state: FileState
    priority: int
    attempt: int
    queued_at: datetime
    expires_at: datetime
    reason: str | None = None
    user_size_bytes: int | None = None
    checksum: str | None = None
    metadata: Any = None
    activity: str = "default"
    source_token: str | None = None
    dest_token: str | None = None
    size_bytes: int | None = None
    transferred_bytes: int = 0
    copying: bool = False
    ours: bool = False
    not_before: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def work_key(self) -> str:
        """Return the key of this attempt's durable work."""
        return f"{self.file_id}.{self.attempt}"

    @property
    def wanted_checksum(self) -> Checksum:
        """Return the checksum to compare; without a value where the caller gave none."""
        return parse_checksum(self.checksum) or Checksum(ADLER32)

    @property
    def duration_s(self) -> float | None:
        """Return how long the last attempt took."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class Attempt:
    """One try that failed, as ``/retries`` shows it."""

    file_id: int
    attempt: int
    at: datetime
    reason: str
    transferred_bytes: int


def deterministic_job_id(vo: str, sid: str) -> str:
    """Return the id that a `sid` always gives, as FTS derives it: uuid5(uuid5(base, vo), sid)."""
    return uuid_in(uuid_in(BASE_ID, vo), sid)


def token_expires_at(token: str | None) -> datetime | None:
    """Return when a JWT says that it ends; none for tokens that cannot be read.

    The signature is not looked at: the storage does that. This only saves useless tries.
    """
    parts = (token or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, binascii.Error):
        return None
