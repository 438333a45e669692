"""Events as policies see them: which policy wants one, and what a job is told of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.core.bus import Event
from twinfra.core.ids import derived_uuid
from twinfra.orchestration.deployments.model.records import Deployment, Policy

VERSION_ADDED = "org.twinfra.dataset.version-added"
DEPLOYMENT_STATE = "org.twinfra.deployment.state"
RULES = "org.twinfra.rule.*"
SITES = "org.twinfra.site.*"
EVENT_TEXT_BYTES = 64 * 1024


def wants(policy: Policy, event: Event, *, group: str) -> bool:
    """Say whether `policy` of a deployment of `group` is about `event`."""
    if event.group not in {None, group}:
        return False
    if not any(_is_type(event.type, wanted) for wanted in policy.types):
        return False
    return meets(policy.condition, event)


def meets(condition: Mapping[str, Any], event: Event) -> bool:
    """Say whether `event` carries what `condition` names.

    ``site``, ``path_prefix``, ``dataset`` and ``subject_prefix`` mean what they mean to the
    notification service; any other name is compared as text with that field of the event's data,
    else with ``subject`` or ``source``.
    """
    data = event.data if isinstance(event.data, Mapping) else {}
    return all(_meets(name, str(wanted), event, data) for name, wanted in condition.items())


def _meets(name: str, wanted: str, event: Event, data: Mapping[str, Any]) -> bool:
    if name == "site":
        return wanted in {event.site, data.get("site")}
    if name == "path_prefix":
        return _below(data.get("path"), wanted)
    if name == "subject_prefix":
        return (event.subject or "").startswith(wanted)
    if name == "dataset":
        return wanted in _datasets(data)
    own = {"subject": event.subject, "source": event.source, "id": event.id}
    return str(data.get(name, own.get(name))) == wanted


def _below(path: Any, prefix: str) -> bool:
    """Compare by whole components: ``/in`` does not hold ``/inbox``."""
    if not isinstance(path, str):
        return False
    whole = "/" + prefix.strip("/")
    return whole in {"/", path} or path.startswith(whole + "/")


def _datasets(data: Mapping[str, Any]) -> set[str]:
    """Return the datasets that the data of an event is about, as ``scope:name``."""
    scope = data.get("scope")
    names = [data.get("dataset"), data.get("name"), *(data.get("datasets") or ())]
    plain = {str(name) for name in names if name}
    return plain | {f"{scope}:{name}" for name in plain if scope and ":" not in name}


def followed(event: Event) -> str | None:
    """Return the container that `event` says has a new version, or none."""
    data = event.data if isinstance(event.data, Mapping) else {}
    if event.type != VERSION_ADDED or not data.get("scope") or not data.get("name"):
        return None
    return f"{data['scope']}:{data['name']}"


def event_text(event: Mapping[str, Any]) -> str:
    """Return `event` as JSON for a job's environment; one that is too long comes without data."""
    text = json.dumps(event, separators=(",", ":"))
    if len(text) > EVENT_TEXT_BYTES:
        text = json.dumps({**event, "data": None}, separators=(",", ":"))
    return text


def state_event(deployment: Deployment, number: int, **more: Any) -> Event:
    """Return the event that tells of a deployment's state.

    Args:
        deployment: as it is now; the event happened when it was last changed.
        number: of the line of its history that says the same; makes the event's id.
        more: adds node, provider and run.
    """
    return Event(
        id=derived_uuid("deployment-state", deployment.id, str(number)),
        time=deployment.updated_at,
        type=DEPLOYMENT_STATE,
        source="/deployments",
        subject=deployment.id,
        group=deployment.group,
        data={
            "uuid": deployment.id,
            "status": deployment.status.value,
            "task": deployment.task.value,
            "reason": deployment.status_reason,
            "node": None,
            "provider": deployment.provider,
            **more,
        },
    )


def needed_types(policies: Sequence[Policy]) -> tuple[str, ...]:
    """Return the event types that these policies are about, each once."""
    return tuple(dict.fromkeys(kind for policy in policies for kind in policy.types))


def _is_type(kind: str, wanted: str) -> bool:
    if wanted.endswith(".*"):
        return kind.startswith(wanted[:-1])
    return kind == wanted
