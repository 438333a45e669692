"""The few words of state: of data identifiers, replicas, rules, locks and requests.

The values are Rucio's spelling on the wire; the one-letter codes of its database are read where its
clients send them.
"""

from enum import StrEnum


class DidType(StrEnum):
    """What a data identifier names."""

    FILE = "FILE"
    DATASET = "DATASET"
    CONTAINER = "CONTAINER"

    @property
    def is_collection(self) -> bool:
        """Whether it may hold others."""
        return self is not DidType.FILE

    def may_hold(self, child: "DidType") -> bool:
        """Whether a `child` may be attached: files to datasets, collections to containers."""
        if self is DidType.DATASET:
            return child is DidType.FILE
        return self is DidType.CONTAINER and child.is_collection


class ReplicaState(StrEnum):
    """How a replica is."""

    AVAILABLE = "AVAILABLE"
    UNAVAILABLE = "UNAVAILABLE"
    COPYING = "COPYING"
    BEING_DELETED = "BEING_DELETED"
    BAD = "BAD"
    TEMPORARY_UNAVAILABLE = "TEMPORARY_UNAVAILABLE"


REPLICA_CODES = {
    "A": ReplicaState.AVAILABLE,
    "U": ReplicaState.UNAVAILABLE,
    "C": ReplicaState.COPYING,
    "B": ReplicaState.BEING_DELETED,
    "D": ReplicaState.BAD,
    "T": ReplicaState.TEMPORARY_UNAVAILABLE,
}


class RuleState(StrEnum):
    """How far a rule is kept."""

    REPLICATING = "REPLICATING"
    OK = "OK"
    STUCK = "STUCK"
    SUSPENDED = "SUSPENDED"


class LockState(StrEnum):
    """How far one file of a rule is where the rule wants it."""

    REPLICATING = "REPLICATING"
    OK = "OK"
    STUCK = "STUCK"


class RequestState(StrEnum):
    """One wanted replica on its way."""

    QUEUED = "QUEUED"
    SUBMITTED = "SUBMITTED"
    DONE = "DONE"
    FAILED = "FAILED"
    NO_SOURCES = "NO_SOURCES"


class Grouping(StrEnum):
    """What a rule keeps together on the same RSEs."""

    ALL = "ALL"
    DATASET = "DATASET"
    NONE = "NONE"
