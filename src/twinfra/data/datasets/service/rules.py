"""Rules as people see them: asked for, looked at, changed, let go; and the work behind each.

A rule is a piece of durable work with one step that looks at what is missing. It waits until
something happens, until a retry is due, or until the rule ends; it never sleeps and looks again.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from twinfra.core.errors import TwinfraError
from twinfra.core.time import Clock
from twinfra.core.workflow.model import Done, Outcome, Run, Wait
from twinfra.data.datasets.errors import (
    DuplicateRule,
    InvalidRule,
    RuleLocked,
    RuleNotFound,
    UnsupportedOperation,
)
from twinfra.data.datasets.model import Did, NewRule, RuleState
from twinfra.data.datasets.model.expression import parse
from twinfra.data.datasets.model.rules import DEPLOYMENT, GROUP
from twinfra.data.datasets.ports import (
    Delegation,
    DidRow,
    LockRow,
    RuleRow,
    Tokens,
    Tx,
    Work,
)
from twinfra.data.datasets.service.dids import require
from twinfra.data.datasets.service.keeping import RULE, Keeping
from twinfra.data.datasets.service.planning import Planning
from twinfra.data.datasets.service.replicas import select_rses
from twinfra.data.datasets.service.rights import Caller, allowed, group_of, require_owner

QUIET_S = 86400.0
FILTERS = frozenset({"account", "state", "scope", "name", "rse_expression", "activity"})
TEXTS = ("comment", "activity", "source_replica_expression")


class RuleService:
    """Rules.

    Args:
        work: opens units of work.
        clock: tells the moment.
        keeping: what follows for rules.
        planning: turns requests into submissions.
        tokens: holds the rights of the rules' owners.
        new_id: draws the rules' ids.
    """

    def __init__(
        self,
        *,
        work: Work,
        clock: Clock,
        keeping: Keeping,
        planning: Planning,
        tokens: Tokens,
        new_id: Callable[[], str],
    ) -> None:
        self._work, self._clock = work, clock
        self._keeping, self._planning = keeping, planning
        self._tokens, self._new_id = tokens, new_id

    async def add(self, caller: Caller, wanted: Sequence[NewRule]) -> list[str]:
        """Add rules, all or none, and return their ids; what they lack is on its way at once.

        Guarantees: each rule holds a delegation of its own by its maker, ended with the rule; what
        a service of the federation asks for in its own name is copied in ours.

        Raises:
            DuplicateRule: the account has the same rule already.
            InvalidRseExpression: an expression is wrong or fits no storage.
            InsufficientTargets: fewer storages fit than copies are wanted.
        """
        wanted = [self._for(caller, one.checked()) for one in wanted]
        await self._check(wanted)
        held: list[Delegation] = []
        people = [] if caller.principal.is_service else wanted
        try:
            for _ in people:
                held.append(await self._tokens.delegate(caller.principal.token))  # noqa: PERF401 - what was held so far is ended when one fails
            async with self._work.begin() as tx:
                ids = [
                    await self._add(tx, caller, one, delegation)
                    for one, delegation in zip_longest(wanted, held)
                ]
        except BaseException:
            for delegation in held:
                await self._tokens.revoke(delegation)
            raise
        for rule_id, one in zip(ids, wanted, strict=True):
            allowed(caller, "rule.add", f"{one.did} {rule_id}")
        return ids

    @staticmethod
    def _for(caller: Caller, wanted: NewRule) -> NewRule:
        account = wanted.account or caller.account
        require_owner(caller, account, "rule.add", str(wanted.did))
        return replace(wanted, account=account)

    async def _check(self, wanted: Sequence[NewRule]) -> None:
        """Refuse what cannot be, before a delegation is asked for."""
        async with self._work.read() as tx:
            rses = await tx.rses.all()
            for one in wanted:
                row = await require(tx, one.did)
                select_rses(rses, one.rse_expression)
                if one.source_replica_expression:
                    parse(one.source_replica_expression)
                await self._refuse_duplicate(tx, row, one)

    @staticmethod
    async def _refuse_duplicate(tx: Tx, row: DidRow, wanted: NewRule) -> None:
        for rule_id in await tx.rules.on([row.id]):
            known = await tx.rules.get(rule_id)
            if known is not None and (known.account, known.rse_expression, known.copies) == (
                wanted.account, wanted.rse_expression, wanted.copies,
            ):  # fmt: skip
                raise DuplicateRule(f"{wanted.account} has this rule on {wanted.did}: {rule_id}")

    async def _add(
        self, tx: Tx, caller: Caller, wanted: NewRule, delegation: Delegation | None
    ) -> str:
        now = self._clock.now()
        row = await require(tx, wanted.did)
        deployment = wanted.meta.get(DEPLOYMENT)
        rule = RuleRow(
            id=self._new_id().replace("-", ""),
            did_id=row.id,
            did=row.did,
            did_type=row.type,
            account=wanted.account or caller.account,
            copies=wanted.copies,
            rse_expression=wanted.rse_expression,
            grouping=wanted.grouping,
            state=RuleState.REPLICATING,
            activity=wanted.activity,
            priority=wanted.priority,
            notify=wanted.notify,
            created_at=now,
            updated_at=now,
            expires_at=_until(now, wanted.lifetime_s),
            locked=wanted.locked,
            weight=wanted.weight,
            source_replica_expression=wanted.source_replica_expression,
            comment=wanted.comment,
            meta=wanted.meta,
            purge_replicas=wanted.purge_replicas,
            ignore_availability=wanted.ignore_availability,
            group=group_of(caller, row.did.scope, wanted.meta.get(GROUP)),
            deployment=deployment if isinstance(deployment, str) else "",
            delegation=delegation,
        )
        if not await tx.rules.add(rule):
            raise DuplicateRule(f"{rule.account} has this rule on {rule.did} already")
        await self._keeping.evaluate(tx, rule)
        await self._keeping.announce(tx, rule)
        await tx.start(RULE, rule.id, {})
        return rule.id

    async def get(self, rule_id: str) -> RuleRow:
        """Return a rule.

        Raises:
            RuleNotFound: there is none (any more).
        """
        async with self._work.read() as tx:
            return await _require(tx, rule_id)

    async def each(self, filters: Mapping[str, Any]) -> AsyncIterator[RuleRow]:
        """Give the rules whose columns match, newest first; unknown keys are refused.

        Raises:
            InvalidRule: a key is not known.
        """
        unknown = set(filters) - FILTERS
        if unknown:
            raise InvalidRule(f"rules cannot be listed by {', '.join(sorted(unknown))}")
        async with self._work.read() as tx:
            async for rule in tx.rules.each(filters):
                yield rule

    async def on(self, did: Did) -> list[RuleRow]:
        """Return the rules on exactly this data identifier."""
        async with self._work.read() as tx:
            row = await require(tx, did)
            found = [await tx.rules.get(rule_id) for rule_id in await tx.rules.on([row.id])]
        return [rule for rule in found if rule is not None]

    async def over(self, did: Did) -> list[RuleRow]:
        """Return the rules that concern a file: on it, or on anything that holds it."""
        async with self._work.read() as tx:
            row = await require(tx, did)
            above = await tx.trees.ancestors([row.id])
            found = [await tx.rules.get(rule_id) for rule_id in await tx.rules.on(above)]
        return [rule for rule in found if rule is not None]

    async def locks(
        self, *, rule_id: str | None = None, did: Did | None = None
    ) -> tuple[list[LockRow], dict[int, str]]:
        """Return the locks of a rule, or on the files of a data identifier, and RSE names."""
        async with self._work.read() as tx:
            names = {number: rse.name for number, rse in (await tx.rses.all()).items()}
            if rule_id is not None:
                await _require(tx, rule_id)
            ids = [(await require(tx, did)).id] if did is not None else None
            return [lock async for lock in tx.locks.each(rule_id=rule_id, did_ids=ids)], names

    async def update(self, caller: Caller, rule_id: str, options: Mapping[str, Any]) -> None:
        """Change a rule: ``lifetime locked comment activity meta …``; ``boost_rule`` tries again.

        Raises:
            UnsupportedOperation: an option is not offered.
        """
        async with self._work.begin() as tx:
            rule = await _require(tx, rule_id, lock=True)
            require_owner(caller, rule.account, "rule.update", rule_id)
            values = _changes(options, self._clock.now())
            if values:
                await tx.rules.update(rule_id, values)
            if options.get("boost_rule") or options.get("state") in {"STUCK", "REPLICATING"}:
                await self._keeping.repair(tx, rule, by_hand=True)
            await tx.wake(RULE, rule_id)
        allowed(caller, "rule.update", rule_id)

    async def remove(self, caller: Caller, rule_id: str, *, purge: bool | None = None) -> None:
        """Let go of a rule at once.

        Raises:
            RuleLocked: it is locked.
        """
        async with self._work.begin() as tx:
            rule = await _require(tx, rule_id, lock=True)
            require_owner(caller, rule.account, "rule.remove", rule_id)
            if rule.locked:
                raise RuleLocked(f"rule {rule_id} is locked")
            await self._keeping.release(
                tx, rule, purge=rule.purge_replicas if purge is None else purge
            )
        allowed(caller, "rule.remove", rule_id)
        if rule.delegation is not None:
            await self._tokens.revoke(rule.delegation)

    async def reconcile(self, run: Run) -> Outcome:
        """Look at a rule: what is missing is sent for, what is due is done; a durable step."""
        rule = await self._begin_look(run.key)
        if rule is None:
            return Done()
        while True:
            async with self._work.begin() as tx:
                rule = await tx.rules.get(run.key, lock=True)
                if rule is None:
                    return Done()
                if not await self._planning.plan(tx, rule):
                    return Wait(await self._pause_s(tx, rule), "until something happens")

    async def _begin_look(self, rule_id: str) -> RuleRow | None:
        """Evaluate a rule; none: it is gone, or its time has come and it was let go."""
        async with self._work.begin() as tx:
            rule, now = await tx.rules.get(rule_id, lock=True), self._clock.now()
            if rule is None:
                return None
            ended = rule.expires_at is not None and rule.expires_at <= now and not rule.locked
            if ended:
                await self._keeping.release(tx, rule, purge=rule.purge_replicas)
            else:
                if rule.repair_at is not None and rule.repair_at <= now:
                    await self._keeping.repair(tx, rule)
                    rule = await _require(tx, rule_id, lock=True)
                try:
                    await self._keeping.evaluate(tx, rule)
                except TwinfraError as trouble:
                    await self._keeping.stick(tx, rule, trouble)
                else:
                    await self._keeping.settle(tx, [rule_id])
        if ended and rule.delegation is not None:
            await self._tokens.revoke(rule.delegation)
        return None if ended else rule

    async def _pause_s(self, tx: Tx, rule: RuleRow) -> float:
        """Return seconds until a rule must be looked at again, if nothing happens before."""
        now = self._clock.now()
        rule = await _require(tx, rule.id)
        moments = [rule.expires_at, rule.repair_at, await tx.requests.next_try(rule.id)]
        due = [moment for moment in moments if moment is not None]
        if not due:
            return QUIET_S
        return min(QUIET_S, max(0.05, (min(due) - now).total_seconds()))


async def _require(tx: Tx, rule_id: str, *, lock: bool = False) -> RuleRow:
    rule = await tx.rules.get(rule_id, lock=lock)
    if rule is None:
        raise RuleNotFound(f"rule {rule_id!r} does not exist")
    return rule


def _until(now: datetime, lifetime_s: float | None) -> datetime | None:
    return None if lifetime_s is None else now + timedelta(seconds=lifetime_s)


def _changes(options: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the columns that options of ``PUT /rules/<id>`` change.

    Raises:
        UnsupportedOperation: an option is not offered.
    """
    values: dict[str, Any] = {"updated_at": now}
    for key, value in options.items():
        if key == "lifetime":
            values["expires_at"] = _until(now, None if value is None else float(value))
        elif key in {"locked", "purge_replicas", "ignore_availability"}:
            values[key] = bool(value)
        elif key in TEXTS:
            values[key] = None if value is None else str(value)
        elif key == "comments":
            values["comment"] = None if value is None else str(value)
        elif key == "priority" and value in {1, 2, 3, 4, 5}:
            values[key] = value
        elif key == "meta" and isinstance(value, Mapping):
            values[key] = dict(value)
        elif key not in {"boost_rule", "state"}:
            raise UnsupportedOperation(f"a rule's {key!r} cannot be changed to {value!r}")
    return values
