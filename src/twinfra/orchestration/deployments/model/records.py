"""What is kept of deployments: frozen records, one class a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from twinfra.orchestration.deployments.model.states import (
    AttemptState,
    Failure,
    NodeState,
    Role,
    RunState,
    Status,
    Task,
    Trigger,
)
from twinfra.orchestration.infrastructure.model import Target

JSON = Mapping[str, Any]


@dataclass(frozen=True)
class Wishes:
    """What the person asked for besides the template; names as on the wire, snake case."""

    callback: str | None = None
    timeout_mins: int | None = None
    provider_timeout_mins: int | None = None
    max_providers_retry: int | None = None
    keep_last_attempt: bool = False


@dataclass(frozen=True)
class Deployment:
    """A template under way or in force.

    Attributes:
        group: whose members may see it; what its data and usage are accounted to.
        generation: 1 at creation, one more at each update and at each removal; work for another
            generation than this is void.
        permit: the owner's lasting permission (an ``access`` delegation as JSON).
        revision: counts the changes of status, to order what is told about them.
    """

    id: str
    issuer: str
    sub: str
    group: str
    status: Status
    template: str
    parameters: JSON
    wishes: Wishes
    permit: JSON = field(repr=False)
    created_at: datetime
    updated_at: datetime
    status_reason: str = ""
    task: Task = Task.NONE
    outputs: JSON = field(default_factory=dict)
    provider: str | None = None
    endpoint: str | None = None
    generation: int = 1
    revision: int = 0
    deadline_at: datetime | None = None


@dataclass(frozen=True)
class Node:
    """A node of the template as a resource.

    Attributes:
        id: also the address of a service behind the proxy.
        place: in the order of building; undone from the highest.
        generation: of the deployment when what this node asks for last changed.
        fingerprint: of what it asks for.
        armed: it runs when its event comes, not when the deployment is built.
        active_run: of a service: the run that requests go to.
        removed: the template no longer has it.
    """

    id: str
    deployment: str
    name: str
    type: str
    role: Role
    place: int
    generation: int
    fingerprint: str
    created_at: datetime
    updated_at: datetime
    depends_on: tuple[str, ...] = ()
    state: NodeState = NodeState.INITIAL
    armed: bool = False
    follow: tuple[str, ...] = ()
    port: int | None = None
    active_run: str | None = None
    removed: bool = False


@dataclass(frozen=True)
class NodeRun:
    """One run of a node: a job once, or one version of a service.

    Attributes:
        number: counts the node's runs from 1.
        cause: id of the event that began it; makes beginning it idempotent.
        event: that event, whole, for the job to read.
        cycle: counts the rankings; a service that lost its site is ranked again.
        candidates: sites in the order of the last ranking.
        pins: the exact dataset that stands for each input, such as a version of a container.
        intent: what is run (see ``intent.Intent``), fixed when it was first placed.
    """

    id: str
    deployment: str
    node: str
    number: int
    trigger: Trigger
    state: RunState
    generation: int
    created_at: datetime
    updated_at: datetime
    cause: str | None = None
    event: JSON | None = None
    cycle: int = 0
    candidates: tuple[str, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    intent: JSON | None = None
    cancel: bool = False
    reason: str = ""
    exit_code: int | None = None
    deadline_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Attempt:
    """One try of a run at one site.

    Attributes:
        id: the pod's UID too: decided and kept before the site is first called.
        number: counts the run's attempts from 1.
        reached: how far it came.
        restarts: how often the site itself began the container again, as last seen.
        gone: proved to be no longer at the site.
        kept: failed, and left there for its owner to look at.
    """

    id: str
    run: str
    deployment: str
    node: str
    number: int
    cycle: int
    target: Target
    state: AttemptState
    reached: RunState
    created_at: datetime
    deadline_at: datetime | None = None
    failure: Failure | None = None
    reason: str = ""
    exit_code: int | None = None
    native_id: str = ""
    restarts: int = 0
    log_tail: str = ""
    unseen_since: datetime | None = None
    gone: bool = False
    kept: bool = False
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Hold:
    """A rule that keeps an input where an attempt needs it."""

    attempt: str
    did: str
    rule: str


@dataclass(frozen=True)
class Placement:
    """What ranking said for one run, and why."""

    run: str
    deployment: str
    node: str
    cycle: int
    at: datetime
    body: JSON


@dataclass(frozen=True)
class Policy:
    """What is to happen when an event comes.

    Attributes:
        types: event types; one may end in ``.*``.
        condition: the filter as the template has it.
        subscription: its id at the notification service, once made.
    """

    id: str
    deployment: str
    name: str
    action: str
    node: str
    types: tuple[str, ...]
    condition: JSON = field(default_factory=dict)
    path: str = "/"
    coalesce: bool = False
    subscription: str | None = None
    removed: bool = False


@dataclass(frozen=True)
class Call:
    """A status, by its revision, that the callback URL is still to be told."""

    deployment: str
    number: int


@dataclass(frozen=True)
class Entry:
    """One line of a deployment's history; `seq` orders all lines of all deployments."""

    seq: int
    deployment: str
    at: datetime
    kind: str
    body: JSON
