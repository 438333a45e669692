"""What stores give and take: records with the numbers that tables join on; no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from twinfra.data.datasets.model import Did, DidType, Grouping, LockState, ReplicaState, RuleState


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns things here."""

    name: str
    type: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DidRow:
    """A data identifier as stored."""

    id: int
    did: Did
    type: DidType
    account: str
    size_bytes: int | None = None
    adler32: str | None = None
    md5: str | None = None
    is_open: bool | None = None
    monotonic: bool = False
    expires_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    closed_at: datetime | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """A file, with one of its replicas or with none (then `rse_id` is none)."""

    file: DidRow
    rse_id: int | None
    state: ReplicaState | None
    path: str | None


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a replica is accounted to."""

    account: str
    group: str = ""
    deployment: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaSummary:
    """How much of a dataset an RSE holds."""

    dataset: DidRow
    rse_id: int
    available_length: int
    available_bytes: int
    length: int
    size_bytes: int
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule as stored."""

    id: str
    did_id: int
    did: Did
    did_type: DidType
    account: str
    copies: int
    rse_expression: str
    grouping: Grouping
    state: RuleState
    activity: str
    priority: int
    notify: str
    created_at: datetime
    updated_at: datetime
    error: str | None = None
    locks_ok: int = 0
    locks_replicating: int = 0
    locks_stuck: int = 0
    expires_at: datetime | None = None
    locked: bool = False
    weight: str | None = None
    source_replica_expression: str | None = None
    comment: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    purge_replicas: bool = False
    ignore_availability: bool = False
    group: str = ""
    deployment: str = ""
    delegation: Mapping[str, Any] | None = None
    stuck_at: datetime | None = None
    repair_at: datetime | None = None
    repairs: int = 0

    @property
    def owner(self) -> Owner:
        """Return who the rule's copies are accounted to."""
        return Owner(self.account, self.group, self.deployment)


@dataclass(frozen=True, slots=True)
class LockRow:
    """One file copy that a rule wants."""

    rule_id: str
    did: Did
    rse_id: int
    state: LockState
    size_bytes: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LockCounts:
    """How many locks of a rule stand how."""

    ok: int = 0
    replicating: int = 0
    stuck: int = 0


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One wanted replica on its way, with what its copy needs to be checked by."""

    id: int
    file: DidRow
    rse_id: int
    rule_id: str
    attempts: int
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A replica that a request may be filled from."""

    request_id: int
    rse_id: int
    path: str | None
    strikes: int = 0
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class TransferRow:
    """One submission to the transfer service: intent first, its job's id when it is known."""

    id: str
    rule_id: str
    rse_id: int
    job_id: str | None


@dataclass(frozen=True, slots=True)
class UsagePeriod:
    """How much was stored at an RSE for somebody, since when."""

    rse_id: int
    owner: Owner
    size_bytes: int
    files: int
    since: datetime | None = None
