"""What datasets are made of: names, states, rules, versions, RSEs and their expressions; pure.

No I/O, no SQL, no HTTP. The typed client and the service share these values; ``service`` is the
neighbour that acts on them.
"""

from twinfra.data.datasets.model.dids import (
    DatasetReplica,
    DidInfo,
    FileInfo,
    FileSpec,
    NewCollection,
    ReplicaInfo,
)
from twinfra.data.datasets.model.names import Did
from twinfra.data.datasets.model.rules import LockInfo, NewRule, RuleInfo
from twinfra.data.datasets.model.states import (
    DidType,
    Grouping,
    LockState,
    ReplicaState,
    RequestState,
    RuleState,
)
from twinfra.data.datasets.model.versions import Version, latest, version_did, version_of

__all__ = [
    "DatasetReplica",
    "Did",
    "DidInfo",
    "DidType",
    "FileInfo",
    "FileSpec",
    "Grouping",
    "LockInfo",
    "LockState",
    "NewCollection",
    "NewRule",
    "ReplicaInfo",
    "ReplicaState",
    "RequestState",
    "RuleInfo",
    "RuleState",
    "Version",
    "latest",
    "version_did",
    "version_of",
]
