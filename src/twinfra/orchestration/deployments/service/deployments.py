"""What people ask for: create, update, remove and look at deployments.

What can be refused at once is refused here, before anything is written: faults of the template, a
group that the token does not name, data that nobody has. Everything after is durable work.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twinfra.access.audit import audit
from twinfra.access.model import Principal
from twinfra.core.errors import Conflict, InsufficientScope, InvalidRequest
from twinfra.orchestration.deployments.model.intent import (
    needed_data,
    on_event_policies,
    problems,
)
from twinfra.orchestration.deployments.model.records import Deployment, Wishes
from twinfra.orchestration.deployments.model.states import (
    Role,
    Status,
    check_delete,
    check_update,
)
from twinfra.orchestration.deployments.service.kit import BUILD, REMOVE, Kit, key_of, later
from twinfra.orchestration.deployments.service.rights import group_for, owned, seen
from twinfra.orchestration.deployments.service.shaping import Asked, shape
from twinfra.orchestration.deployments.service.telling import tell_status
from twinfra.orchestration.tosca.errors import TemplateErrors
from twinfra.orchestration.tosca.model import Plan
from twinfra.orchestration.tosca.parse import parse


@dataclass(frozen=True)
class Request:
    """The body of a creation or an update, checked by its form only."""

    template: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    wishes: Wishes = field(default_factory=Wishes)

    @property
    def digest(self) -> str:
        """Return what is equal exactly for equal requests."""
        facts = [self.template, dict(self.parameters), self.group, vars(self.wishes)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Created:
    """A deployment that a request made, now or when it was sent before."""

    deployment: Deployment
    replayed: bool = False


class Deployments:
    """The use cases, on the ports of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def create(
        self, principal: Principal, request: Request, *, repeat_key: str | None = None
    ) -> Created:
        """Accept a deployment; the same request under the same `repeat_key` is accepted once.

        Raises:
            TemplateErrors: the template, its parameters or what it asks for are wrong; all faults.
            InsufficientScope: the group is not one of the token's, or it cannot be delegated.
            Conflict: `repeat_key` was used for another request.
        """
        kit = self._kit
        group = group_for(principal, request.group)
        if repeat_key and (known := await self._repeated(principal, request, repeat_key)):
            return Created(known, replayed=True)
        plan = await self._planned(principal, request)
        permit = await kit.permits.obtain(principal.token)
        now = kit.clock.now()
        deployment = Deployment(
            id=kit.new_id(),
            issuer=principal.issuer,
            sub=principal.sub,
            group=group,
            status=Status.CREATE_IN_PROGRESS,
            template=request.template,
            parameters=dict(request.parameters),
            wishes=request.wishes,
            permit=dict(permit),
            created_at=now,
            updated_at=now,
            deadline_at=later(now, request.wishes.timeout_mins),
        )
        async with kit.store.unit() as unit:
            if repeat_key is not None:
                await unit.remember(
                    issuer=principal.issuer, sub=principal.sub, key=repeat_key,
                    digest=request.digest, deployment=deployment.id, at=now,
                )  # fmt: skip
            await unit.add(deployment)
            deployment = await tell_status(kit, unit, deployment, deployment.status)
            await shape(kit, unit, Asked(deployment, plan))
            await unit.start(BUILD, key_of(deployment))
        audit("deployment.create", principal, "allowed", deployment.id, group=group)
        return Created(deployment)

    async def update(
        self, principal: Principal, deployment_id: str, request: Request
    ) -> Deployment:
        """Accept a whole new template; parameters are merged into those in force.

        Raises:
            NotFound, InsufficientScope: it is not the caller's. Conflict: not in this status.
            TemplateErrors: as for `create`; the deployment stays as it is. InvalidRequest: it has
                jobs only, which cannot be updated, or another group is asked for.
        """
        kit = self._kit
        async with kit.store.view() as view:
            known = await view.deployment(deployment_id)
            nodes = await view.nodes(deployment_id)
        known = owned(principal, known, deployment_id, "deployment.update")
        check_update(known.status)
        if request.group not in {None, known.group, f"/{known.group}"}:
            raise InvalidRequest(f"userGroup stays {known.group}")
        if nodes and all(node.role is Role.JOB and not node.armed for node in nodes):
            raise InvalidRequest("a deployment of jobs only cannot be updated; create another")
        merged = replace(request, parameters={**known.parameters, **request.parameters})
        plan = await self._planned(principal, merged)
        permit = await kit.permits.obtain(principal.token)
        now = kit.clock.now()
        async with kit.store.unit() as unit:
            present = await unit.deployment(deployment_id)
            present = owned(principal, present, deployment_id, "deployment.update")
            check_update(present.status)
            if present.revision != known.revision:
                raise Conflict("the deployment changed meanwhile", retry_after_s=0)
            changed = replace(
                present,
                template=merged.template,
                parameters=dict(merged.parameters),
                wishes=request.wishes,
                permit=dict(permit),
                generation=present.generation + 1,
                deadline_at=later(now, request.wishes.timeout_mins),
            )
            changed = await tell_status(kit, unit, changed, Status.UPDATE_IN_PROGRESS)
            await shape(kit, unit, Asked(changed, plan))
            await unit.start(BUILD, key_of(changed))
        return changed

    async def delete(
        self, principal: Principal, deployment_id: str, *, force: bool = False
    ) -> Deployment:
        """Begin to remove a deployment, whatever it is doing.

        Args:
            principal: who asks.
            deployment_id: which.
            force: do not wait for sites; what is left at them is named, and still cleaned later.

        Raises:
            NotFound, InsufficientScope: it is not the caller's.
            Conflict: it is being removed, or gone; `force` is accepted in mid-removal.
        """
        kit = self._kit
        async with kit.store.unit() as unit:
            known = await unit.deployment(deployment_id)
            known = owned(principal, known, deployment_id, "deployment.delete")
            if not (force and known.status is Status.DELETE_IN_PROGRESS):
                check_delete(known.status)
            leaving = replace(known, generation=known.generation + 1)
            leaving = await tell_status(kit, unit, leaving, Status.DELETE_IN_PROGRESS)
            for policy in await unit.policies(deployment_id):
                await unit.save(replace(policy, removed=True))
            await unit.start(REMOVE, key_of(leaving), {"force": force})
        return leaving

    async def reset(self, principal: Principal, deployment_id: str, status: str) -> None:
        """Give up a removal that does not end: the only status that a person may set.

        Raises:
            InvalidRequest: another status is asked for. Conflict: it is not being removed.
        """
        if status != Status.DELETE_FAILED:
            raise InvalidRequest(f"only {Status.DELETE_FAILED} can be set")
        async with self._kit.store.unit() as unit:
            known = await unit.deployment(deployment_id)
            known = owned(principal, known, deployment_id, "deployment.reset")
            if known.status is not Status.DELETE_IN_PROGRESS:
                raise Conflict(f"a deployment in {known.status} cannot be reset")
            stopped = replace(known, generation=known.generation + 1)
            reason = "given up by its owner; delete it again to go on"
            await tell_status(self._kit, unit, stopped, Status.DELETE_FAILED, reason)

    async def get(self, principal: Principal, deployment_id: str) -> Deployment:
        """Return a deployment that the caller may see.

        Raises:
            NotFound: there is none for them.
        """
        async with self._kit.store.view() as view:
            return seen(principal, await view.deployment(deployment_id), deployment_id)

    async def sweep(self) -> None:
        """Forget what was deleted long ago; runs until cancelled."""
        kit = self._kit
        while True:
            await kit.clock.sleep(kit.settings.deleted_for_s / 24)
            await self.forget_deleted()

    async def forget_deleted(self) -> None:
        """Forget the deployments whose deletion is old enough."""
        kit = self._kit
        minutes = -kit.settings.deleted_for_s / 60
        async with kit.store.unit() as unit:
            moment = later(kit.clock.now(), minutes)
            for deployment_id in await unit.deleted_before(moment, limit=100):
                attempts = await unit.attempts(deployment=deployment_id)
                if all(attempt.gone for attempt in attempts):
                    await unit.forget(deployment_id)

    async def _repeated(
        self, principal: Principal, request: Request, key: str
    ) -> Deployment | None:
        async with self._kit.store.view() as view:
            found = await view.repeat(principal.issuer, principal.sub, key)
            if found is None:
                return None
            digest, deployment_id = found
            if digest != request.digest:
                raise Conflict("this Idempotency-Key was used for another request")
            return await view.deployment(deployment_id)

    async def _planned(self, principal: Principal, request: Request) -> Plan:
        """Return the plan of a request that nothing speaks against."""
        plan = parse(request.template, dict(request.parameters))
        if found := problems(plan):
            raise TemplateErrors(found)
        for policy in on_event_policies(plan):
            group = policy.properties.get("group")
            if group and str(group).strip("/") not in principal.groups:
                raise InsufficientScope(f"policy {policy.name}: the token does not name {group}")
        await self._check_data(principal, plan)
        return plan

    async def _check_data(self, principal: Principal, plan: Plan) -> None:
        missing: list[dict[str, Any]] = []
        for did, (node, line) in needed_data(plan).items():
            if not await self._kit.data.exists(did, token=principal.token):
                missing.append(
                    {
                        "path": f"topology_template.node_templates.{node}.properties.inputs",
                        "line": line,
                        "detail": f"the dataset {did} does not exist and no other node writes it",
                    }
                )
        if missing:
            raise InvalidRequest(_first_of(missing), errors=missing)


def _first_of(errors: Sequence[Mapping[str, Any]]) -> str:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"line {errors[0]['line']}: {errors[0]['detail']}{more}"
