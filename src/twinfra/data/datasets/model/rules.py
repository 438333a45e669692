"""What a rule asks for and how it stands.

Pure values shared by the service and its typed client; how locks follow from a rule is in
``placement``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from twinfra.data.datasets.errors import InvalidRule
from twinfra.data.datasets.model.names import Did
from twinfra.data.datasets.model.states import Grouping, RuleState

DEPLOYMENT, GROUP = "deployment", "group"


@dataclass(frozen=True, slots=True)
class NewRule:
    """So many copies of all files below a data identifier, at RSEs of an expression.

    ``meta`` may name the ``deployment`` and the ``group`` that the copies are accounted to.
    """

    did: Did
    copies: int
    rse_expression: str
    lifetime_s: float | None = None
    grouping: Grouping = Grouping.DATASET
    source_replica_expression: str | None = None
    activity: str = "User Subscriptions"
    comment: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    weight: str | None = None
    locked: bool = False
    priority: int = 3
    purge_replicas: bool = False
    ignore_availability: bool = False
    notify: str = "N"
    account: str | None = None

    def checked(self) -> "NewRule":
        """Return this rule if it makes sense.

        Raises:
            InvalidRule: no copy is wanted, or a number is out of its bounds.
        """
        if self.copies < 1:
            raise InvalidRule(f"{self.copies} copies are wanted; at least one is needed")
        if self.lifetime_s is not None and self.lifetime_s <= 0:
            raise InvalidRule(f"a lifetime of {self.lifetime_s} s")
        if not 1 <= self.priority <= 5:
            raise InvalidRule(f"priority {self.priority} is not between 1 and 5")
        return self


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """A rule as it stands."""

    id: str
    did: Did
    did_type: str
    account: str
    copies: int
    rse_expression: str
    state: RuleState
    locks_ok: int
    locks_replicating: int
    locks_stuck: int
    error: str | None = None
    expires_at: datetime | None = None
    activity: str | None = None
    comment: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def locks(self) -> int:
        """How many file copies the rule wants."""
        return self.locks_ok + self.locks_replicating + self.locks_stuck


@dataclass(frozen=True, slots=True)
class LockInfo:
    """One file copy that a rule wants, and how far it is."""

    did: Did
    rse: str
    state: str
    rule_id: str
