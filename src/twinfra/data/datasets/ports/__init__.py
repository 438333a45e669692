"""What the datasets service needs of the world: stores, transfers, tokens, accounting."""

from twinfra.data.datasets.ports.outside import (
    Accounting,
    Attempt,
    Copy,
    Delegation,
    Job,
    JobReport,
    Tokens,
    Transfers,
)
from twinfra.data.datasets.ports.rows import (
    Account,
    DidRow,
    LockCounts,
    LockRow,
    Owner,
    ReplicaRow,
    ReplicaSummary,
    RequestRow,
    RuleRow,
    SourceRow,
    TransferRow,
    UsagePeriod,
)
from twinfra.data.datasets.ports.work import Tx, Work

__all__ = [
    "Account",
    "Accounting",
    "Attempt",
    "Copy",
    "Delegation",
    "DidRow",
    "Job",
    "JobReport",
    "LockCounts",
    "LockRow",
    "Owner",
    "ReplicaRow",
    "ReplicaSummary",
    "RequestRow",
    "RuleRow",
    "SourceRow",
    "Tokens",
    "TransferRow",
    "Transfers",
    "Tx",
    "UsagePeriod",
    "Work",
]
