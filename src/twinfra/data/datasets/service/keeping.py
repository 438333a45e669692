"""Keeping rules: what a rule still lacks becomes locks and requests; what happens settles rules.

All of it within the caller's unit of work, by the set. Every change that may concern a rule ends
here: a rule is made, content joins or leaves, a replica comes, turns out bad or cannot be had.
Copies nothing itself: ``submissions`` hands the requests to the transfer service.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from twinfra.core.errors import TwinfraError
from twinfra.core.time import Clock
from twinfra.data.datasets.errors import InvalidRseExpression
from twinfra.data.datasets.model import LockState, ReplicaState, RuleState
from twinfra.data.datasets.model.expression import parse
from twinfra.data.datasets.model.placement import Candidate, place, rule_state
from twinfra.data.datasets.model.rses import Rse
from twinfra.data.datasets.model.verdicts import explain
from twinfra.data.datasets.ports import DidRow, RuleRow, Tx
from twinfra.data.datasets.service import news

RULE, TRANSFER, USAGE, EXPIRY = "rule", "transfer", "usage", "expiry"
USAGE_KEY = "storage"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REASONS = 4


@dataclass(frozen=True, slots=True)
class Repair:
    """When what is stuck is tried again: after `first_s`, then each time twice as long.

    A rule that is stuck for `give_up_s` is SUSPENDED; only its owner wakes it then.
    """

    first_s: float = 60.0
    longest_s: float = 3600.0
    give_up_s: float = 14 * 86400.0

    def at(self, now: datetime, repairs: int) -> datetime:
        """Return when the next repair is due."""
        pause = min(self.longest_s, self.first_s * 2.0 ** min(repairs, 20))
        return now + timedelta(seconds=pause)


class Keeping:
    """What follows for rules.

    Args:
        clock: tells the moment.
        repair: when what is stuck is tried again.
    """

    def __init__(self, clock: Clock, repair: Repair) -> None:
        self._clock, self._repair = clock, repair

    async def evaluate(self, tx: Tx, rule: RuleRow) -> None:
        """Give each file of the rule its locks, and each lock that needs it a request.

        Raises:
            InvalidRseExpression: the expression fits no storage (any more).
            InsufficientTargets: it fits fewer than copies are wanted.
        """
        now = self._clock.now()
        rses = await tx.rses.all()
        candidates = _candidates(rule, rses)
        clusters = await tx.placements.stage(rule)
        if clusters:
            names = {rse.name: rse_id for rse_id, rse in rses.items()}
            ids = [names[one.rse] for one in candidates]
            presence = await tx.placements.presence(rule.id, ids)
            held = await tx.placements.held(rule.id, rule.grouping)
            choices = [
                (cluster, names[chosen])
                for cluster in sorted(clusters)
                for chosen in place(
                    f"{rule.id}/{cluster}",
                    candidates,
                    rule.copies,
                    held={rses[one].name for one in held.get(cluster, ())},
                    presence={
                        rses[one].name: there for one, there in presence.get(cluster, {}).items()
                    },
                )
            ]
            await tx.placements.place(rule.id, choices, now)
        else:
            place("", candidates, rule.copies)
        await tx.requests.enqueue(rule.id, now)

    async def settle(self, tx: Tx, rule_ids: Collection[str]) -> None:
        """Bring counters and states of rules in line with their locks; tell what changed."""
        found = [await tx.rules.get(rule_id, lock=True) for rule_id in sorted(rule_ids)]
        counts = await tx.locks.counts(rule_ids)
        for rule in found:
            if rule is None:
                continue
            rule_id, count = rule.id, counts[rule.id]
            state, error = rule_state(count.replicating, count.stuck), None
            if state is RuleState.STUCK:
                error = explain(await tx.locks.reasons(rule_id, REASONS))
            await self._write(tx, rule, state, error, count.ok, count.replicating, count.stuck)

    async def announce(self, tx: Tx, rule: RuleRow) -> None:
        """Tell how a new rule stands: kept at once, or on its way."""
        counts = (await tx.locks.counts([rule.id]))[rule.id]
        state = rule_state(counts.replicating, counts.stuck)
        if state is RuleState.REPLICATING:
            await news.rule_changed(tx, rule, state.value, None)
        await self.settle(tx, [rule.id])

    async def stick(self, tx: Tx, rule: RuleRow, trouble: TwinfraError) -> None:
        """Say that a rule as a whole cannot be kept at present, and why."""
        await self._write(
            tx, rule, RuleState.STUCK, trouble.detail,
            rule.locks_ok, rule.locks_replicating, rule.locks_stuck,
        )  # fmt: skip

    async def _write(
        self,
        tx: Tx,
        rule: RuleRow,
        state: RuleState,
        error: str | None,
        *locks: int,
    ) -> None:
        now = self._clock.now()
        if state is RuleState.STUCK and rule.state is RuleState.SUSPENDED:
            state = RuleState.SUSPENDED
        values = {
            "state": state.value,
            "error": error,
            "locks_ok": locks[0],
            "locks_replicating": locks[1],
            "locks_stuck": locks[2],
            "updated_at": now,
        }
        if state is RuleState.STUCK and rule.repair_at is None:
            values |= {"stuck_at": rule.stuck_at or now}
            values |= {"repair_at": self._repair.at(now, rule.repairs)}
        elif state is RuleState.OK:
            values |= {"stuck_at": None, "repair_at": None, "repairs": 0}
        await tx.rules.update(rule.id, values)
        if state is not rule.state or error != rule.error:
            await news.rule_changed(tx, rule, state.value, error)
            if state is RuleState.STUCK:
                await tx.wake(RULE, rule.id)

    async def repair(self, tx: Tx, rule: RuleRow, *, by_hand: bool = False) -> None:
        """Try again what a rule is stuck on; give up after too long."""
        now = self._clock.now()
        since = now - (rule.stuck_at or now)
        if not by_hand and since > timedelta(seconds=self._repair.give_up_s):
            await tx.rules.update(
                rule.id, {"state": RuleState.SUSPENDED.value, "repair_at": None, "updated_at": now}
            )
            return
        await tx.request_care.repair(rule.id, now)
        values = {
            "state": RuleState.REPLICATING.value,
            "repair_at": None,
            "repairs": 0 if by_hand else rule.repairs + 1,
        }
        if by_hand:
            values["stuck_at"] = None
        await tx.rules.update(rule.id, values)
        await self.settle(tx, [rule.id])

    async def content_changed(self, tx: Tx, did_ids: Collection[int]) -> None:
        """Have all rules looked at that are on collections or on anything that holds them."""
        for rule_id in await tx.rules.on(await tx.trees.ancestors(did_ids)):
            await tx.wake(RULE, rule_id)

    async def arrived(self, tx: Tx, rse_id: int, rse: Rse, files: Sequence[DidRow]) -> None:
        """Note that files can be read at a storage now."""
        if not files:
            return
        now, ids = self._clock.now(), [file.id for file in files]
        touched = await tx.locks.set_state(rse_id, ids, LockState.OK.value)
        await tx.request_care.satisfied(rse_id, ids)
        revived = await tx.request_care.revive(ids, now)
        await self.settle(tx, touched | revived)
        for rule_id in sorted(revived):
            await tx.wake(RULE, rule_id)
        await news.replicas_available(tx, rse, files)
        await tx.wake(USAGE, USAGE_KEY)

    async def went_bad(
        self, tx: Tx, rse_id: int, rse: Rse, files: Sequence[DidRow], reason: str, account: str
    ) -> None:
        """Note that copies are broken: no source any more, rules that need them make new ones."""
        now, ids = self._clock.now(), [file.id for file in files]
        changed = await tx.replicas.set_state(rse_id, ids, ReplicaState.BAD, now)
        await tx.care.note_bad(rse_id, sorted(changed), "BAD", reason, account, now)
        touched = await tx.locks.set_state(rse_id, sorted(changed), LockState.REPLICATING.value)
        await self.settle(tx, touched)
        for rule_id in sorted(touched):
            await tx.wake(RULE, rule_id)
        for file in files:
            if file.id in changed:
                await news.replica_bad(tx, rse, file, reason)
        await tx.wake(USAGE, USAGE_KEY)

    async def cannot_have(self, tx: Tx, rse_id: int, reasons: Mapping[str, Sequence[int]]) -> None:
        """Note that files cannot be brought to a storage at present: by reason, which."""
        touched: set[str] = set()
        for reason, ids in reasons.items():
            touched |= await tx.locks.set_state(rse_id, ids, LockState.STUCK.value, reason)
        await self.settle(tx, touched)

    async def release(self, tx: Tx, rule: RuleRow, *, purge: bool) -> None:
        """Remove a rule: copies that nobody else wants may go, their transfers are called off."""
        now = self._clock.now()
        by_rse: dict[int, list[int]] = {}
        for rse_id, did_id in await tx.locks.released(rule.id):
            by_rse.setdefault(rse_id, []).append(did_id)
        for rse_id, ids in by_rse.items():
            await tx.care.set_tombstones(rse_id, ids, EPOCH if purge else now)
        under_way, heirs = await tx.request_care.abandon(rule.id, now)
        await tx.rules.remove(rule.id)
        for transfer_id in sorted(under_way):
            await tx.wake(TRANSFER, transfer_id)
        for heir in sorted(heirs | {rule.id}):
            await tx.wake(RULE, heir)


def _candidates(rule: RuleRow, rses: Mapping[int, Rse]) -> list[Candidate]:
    """Return the storages that a rule allows, with their weights."""
    facts = {rse.name: rse.attributes for rse in rses.values()}
    chosen = parse(rule.rse_expression).select(facts)
    if not chosen:
        raise InvalidRseExpression(f"RSE expression {rule.rse_expression!r} fits no storage")
    found = []
    for rse in rses.values():
        if rse.name not in chosen or rse.volatile:
            continue
        if not (rse.availability_write or rule.ignore_availability):
            continue
        weight = 1.0
        if rule.weight is not None:
            try:
                weight = float(rse.attributes[rule.weight])
            except (KeyError, TypeError, ValueError):
                continue
        found.append(Candidate(rse.name, weight))
    return found
