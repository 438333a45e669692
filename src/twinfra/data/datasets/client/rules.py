"""Calls about rules: ask for copies, look how they stand, let go. None of them waits."""

from collections.abc import Mapping
from typing import Any

from twinfra.data.datasets.client.base import Calls
from twinfra.data.datasets.client.wire import lock_info, path_of, rule_dict, rule_info
from twinfra.data.datasets.model import Did, LockInfo, NewRule, RuleInfo


class RuleCalls(Calls):
    """Copies that are wanted, and kept."""

    async def add_rule(self, rule: NewRule, *, token: str | None = None) -> str:
        """Ask for copies and return the rule's id at once.

        What follows comes as events: ``org.twinfra.rule.replicating``, ``.ok``, ``.stuck``.

        Raises:
            Conflict: the account has this rule already, or too few RSEs fit.
            InvalidRequest: the expression is wrong or fits no RSE.
            NotFound: there is no such data identifier.
        """
        reply = await self._http.request("POST", "/rules/", json=rule_dict(rule), token=token)
        return str(reply.json()[0])

    async def get_rule(self, rule_id: str, *, token: str | None = None) -> RuleInfo:
        """Return how a rule stands; its `error` says why it is STUCK.

        Raises:
            NotFound: there is no such rule (any more).
        """
        return rule_info((await self._read(f"/rules/{rule_id}", token=token)).json())

    async def did_rules(self, did: Did, *, token: str | None = None) -> list[RuleInfo]:
        """Return the rules on exactly this data identifier."""
        return [
            rule_info(entry)
            for entry in await self._list(f"/dids/{path_of(did)}/rules", token=token)
        ]

    async def list_rules(self, *, token: str | None = None, **filters: str) -> list[RuleInfo]:
        """Return rules whose columns match, such as ``account="alice"`` or ``state="STUCK"``."""
        found = await self._list("/rules/", params=filters, token=token)
        return [rule_info(entry) for entry in found]

    async def rule_locks(self, rule_id: str, *, token: str | None = None) -> list[LockInfo]:
        """Return each file copy that the rule wants, and how far it is."""
        found = await self._list(f"/rules/{rule_id}/locks", token=token)
        return [lock_info(entry) for entry in found]

    async def update_rule(
        self, rule_id: str, options: Mapping[str, Any], *, token: str | None = None
    ) -> None:
        """Change ``lifetime``, ``locked``, ``comment``, ``activity``, …; or ``boost_rule``."""
        await self._http.request(
            "PUT", f"/rules/{rule_id}", json={"options": dict(options)}, token=token
        )

    async def delete_rule(
        self, rule_id: str, *, purge_replicas: bool | None = None, token: str | None = None
    ) -> None:
        """Let go of the copies; transfers that nobody else waits for are cancelled."""
        await self._http.request(
            "DELETE", f"/rules/{rule_id}", json={"purge_replicas": purge_replicas}, token=token
        )
