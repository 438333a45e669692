"""The ports of the orchestrator on the typed clients of its neighbours.

Each class is a thin translation: which token is sent, whose words are used, which refusals mean
that something is there already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.access.model import Delegation
from twinfra.access.scopes import DATA_SCOPES
from twinfra.access.tokens import TokenClient
from twinfra.core.errors import Conflict, NotFound
from twinfra.data.datasets.client import DatasetsClient, Did, NewRule
from twinfra.data.notifications.client import EventFilter, NotificationsClient
from twinfra.orchestration.catalogue.client import CatalogueClient
from twinfra.orchestration.deployments.ports import Ranked, RuleState
from twinfra.orchestration.infrastructure.model import Target
from twinfra.orchestration.ranking.client import RankingClient

JSON = Mapping[str, Any]
COPIES = 1


class IssuerPermits:
    """Lasting permissions by delegation at the federation's issuer; a `Permits`."""

    def __init__(self, tokens: TokenClient) -> None:
        self._tokens = tokens

    async def obtain(self, token: str) -> JSON:
        """Return the permission to act for the person of `token`, to be stored."""
        return (await self._tokens.delegate(token)).to_dict()

    async def token(self, permit: JSON, audience: str, scope: str = "") -> str:
        """Return a token that acts for the person at `audience`."""
        return await self._tokens.on_behalf(Delegation.from_dict(permit), audience, scope)

    async def revoke(self, permit: JSON) -> None:
        """End the permission."""
        await self._tokens.revoke(Delegation.from_dict(permit))


class SiteRanking:
    """Ranking's answer, and the catalogue's word on how to reach a site; a `Ranking`."""

    def __init__(self, ranking: RankingClient, catalogue: CatalogueClient) -> None:
        self._ranking, self._catalogue = ranking, catalogue

    async def rank(
        self,
        requirements: JSON,
        inputs: Sequence[str],
        *,
        group: str,
        deployment: str,
        exclude: Sequence[str] = (),
    ) -> Ranked:
        """Return all candidates, best first, and what excluded the others."""
        answer = await self._ranking.rank(
            requirements, inputs, group=group, exclude=exclude, deployment=deployment
        )
        return Ranked(answer.sites, answer.body)

    async def target(self, site: str) -> Target:
        """Return how to reach `site`."""
        found = (await self._catalogue.provider(site)).provider
        if found.interlink_url is None:
            raise NotFound(f"{site} has no interLink endpoint")
        return Target(site, found.interlink_url.rstrip("/"), found.rse)


class PersonsData:
    """Datasets on behalf of a person; a `Data`.

    Args:
        datasets: its client; what only reads is asked as this service.
        tokens: exchanges what the person sent.
        permits: gives tokens for lasting work.
        url: of the datasets service, the audience of its tokens.
    """

    def __init__(
        self, datasets: DatasetsClient, tokens: TokenClient, permits: IssuerPermits, *, url: str
    ) -> None:
        self._datasets, self._tokens, self._permits, self._url = datasets, tokens, permits, url

    async def exists(self, did: str, *, token: str) -> bool:
        """Say whether the federation knows `did`."""
        theirs = await self._tokens.exchange(token, self._url)
        try:
            await self._datasets.get_did(Did.parse(did), token=theirs)
        except NotFound:
            return False
        return True

    async def pin(self, did: str, permit: JSON) -> str:
        """Return the exact dataset that `did` stands for now."""
        theirs = await self._permits.token(permit, self._url)
        return str(await self._datasets.resolve(Did.parse(did), token=theirs))

    async def keep(self, did: str, rse: str, permit: JSON, *, lifetime_s: float, meta: JSON) -> str:
        """Ask for a copy of `did` at `rse`; return the id of the rule."""
        theirs = await self._permits.token(permit, self._url, DATA_SCOPES)
        rule = NewRule(Did.parse(did), COPIES, rse, lifetime_s=lifetime_s, meta=dict(meta))
        try:
            return await self._datasets.add_rule(rule, token=theirs)
        except Conflict:
            account = str((await self._datasets.whoami(token=theirs))["account"])
            for known in await self._datasets.did_rules(rule.did, token=theirs):
                if (known.account, known.rse_expression, known.copies) == (account, rse, COPIES):
                    options = {"lifetime": lifetime_s}
                    await self._datasets.update_rule(known.id, options, token=theirs)
                    return known.id
            raise

    async def rule(self, rule_id: str) -> RuleState | None:
        """Return how a rule stands, or none if it is there no more."""
        try:
            found = await self._datasets.get_rule(rule_id)
        except NotFound:
            return None
        return RuleState(found.state.value, found.error or "")

    async def release(self, rule_id: str, permit: JSON) -> None:
        """Let go of a rule."""
        theirs = await self._permits.token(permit, self._url)
        try:
            await self._datasets.delete_rule(rule_id, token=theirs)
        except NotFound:
            return


class PersonsWebhooks:
    """Subscriptions of a person, kept for their deployments; a `Webhooks`.

    Args:
        notifications: its client.
        permits: gives tokens for lasting work.
        url: of the notification service, the audience of its tokens.
    """

    def __init__(
        self, notifications: NotificationsClient, permits: IssuerPermits, *, url: str
    ) -> None:
        self._notifications, self._permits, self._url = notifications, permits, url

    async def subscribe(
        self,
        permit: JSON,
        *,
        name: str,
        types: Sequence[str],
        condition: JSON,
        url: str,
        group: str,
    ) -> str:
        """Have events delivered to `url`; return the subscription's id."""
        theirs = await self._permits.token(permit, self._url)
        made = await self._notifications.subscribe(
            types, url, name=name, filter=EventFilter(**condition), group=group, token=theirs
        )
        return made.id

    async def unsubscribe(self, permit: JSON, subscription: str) -> None:
        """End a subscription."""
        theirs = await self._permits.token(permit, self._url)
        await self._notifications.unsubscribe(subscription, token=theirs)


__all__ = ["IssuerPermits", "PersonsData", "PersonsWebhooks", "SiteRanking"]
