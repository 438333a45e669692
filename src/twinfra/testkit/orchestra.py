# ruff: noqa: ARG002 - fakes take all that the ports give
"""The orchestrator with fakes for all its neighbours, its work turned by hand, on virtual time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from twinfra.access.model import Principal
from twinfra.core.bus import Event
from twinfra.core.database import Database
from twinfra.core.errors import InvalidRequest, NotFound, TwinfraError, Unavailable
from twinfra.core.ids import new_uuid
from twinfra.orchestration.deployments.ports import Ranked, RuleState, Traffic
from twinfra.orchestration.deployments.service.deployments import Deployments
from twinfra.orchestration.deployments.service.kit import Kit
from twinfra.orchestration.deployments.service.reactions import Reactions
from twinfra.orchestration.deployments.service.work import workflows
from twinfra.orchestration.deployments.settings import DeploymentsSettings
from twinfra.orchestration.deployments.store import Store
from twinfra.orchestration.infrastructure.model import Target
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.fake_driver import FakeDriver
from twinfra.testkit.hand_engine import HandEngine

BASE_URL = "https://deployments.example"
MIGRATIONS = "twinfra.orchestration.deployments.migrations"


def a_person(sub: str = "alice", *groups: str, **changes: Any) -> Principal:
    """Return a person of these groups, of ``climate`` if none is named."""
    return Principal(
        issuer="https://issuer.example",
        sub=sub,
        client_id="cli",
        groups=frozenset(groups or ("climate",)),
        scopes=(),
        actor=None,
        token=f"token-of-{sub}",
        is_service=bool(changes.get("is_service")),
    )


class FakePermits:
    """Permits in memory; `ended` ones give no token."""

    def __init__(self) -> None:
        self.ended = False
        self.revoked: list[str] = []
        self.asked: list[tuple[str, str]] = []

    async def obtain(self, token: str) -> Mapping[str, Any]:
        """Return a permit."""
        return {"of": token}

    async def token(self, permit: Mapping[str, Any], audience: str, scope: str = "") -> str:
        """Return a token that names whom it acts for."""
        self.asked.append((audience, scope))
        if self.ended:
            raise InvalidRequest("the permission ended")
        return f"{permit['of']} at {audience}"

    async def revoke(self, permit: Mapping[str, Any]) -> None:
        """Note the end."""
        self.revoked.append(permit["of"])


class FakeRanking:
    """Ranks the sites in the order that the test sets."""

    def __init__(self, sites: Sequence[str]) -> None:
        self.sites = list(sites)
        self.away: TwinfraError | None = None
        self.excluded = "missing-capability"
        self.asked: list[dict[str, Any]] = []

    async def rank(
        self,
        requirements: Mapping[str, Any],
        inputs: Sequence[str],
        *,
        group: str,
        deployment: str,
        exclude: Sequence[str] = (),
    ) -> Ranked:
        """Return the sites, without those excluded."""
        self.asked.append({"requirements": dict(requirements), "inputs": list(inputs)})
        if self.away is not None:
            raise self.away
        left = tuple(site for site in self.sites if site not in exclude)
        body = {
            "candidates": [
                {"site": site, "score": 1.0 / place, "rank": place, "factors": []}
                for place, site in enumerate(left, 1)
            ],
            "excluded": [{"site": "edge-x", "reason": self.excluded, "detail": "it is too small"}],
            "model_version": "fake",
        }
        return Ranked(left, body)

    async def target(self, site: str) -> Target:
        """Return how to reach a site."""
        if site not in self.sites:
            raise NotFound(f"no provider {site}")
        return Target(site, f"https://{site}.example", site.upper())


class FakeData:
    """Datasets in memory; rules are OK at once unless the test says otherwise."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.versions: dict[str, str] = {}
        self.rules: dict[str, RuleState] = {}
        self.kept: dict[tuple[str, str], str] = {}
        self.renewals: list[str] = []
        self.released: list[str] = []
        self.first_state = "OK"
        self.bad_sites: dict[str, str] = {}

    async def exists(self, did: str, *, token: str) -> bool:
        """Say whether the test has made it."""
        return did in self.known

    async def pin(self, did: str, permit: Mapping[str, Any]) -> str:
        """Return the version that the test has set."""
        if did not in self.known:
            raise NotFound(f"no {did}")
        return self.versions.get(did, did)

    async def keep(
        self, did: str, rse: str, permit: Mapping[str, Any], *, lifetime_s: float, meta: Any
    ) -> str:
        """Return the rule of this data there."""
        if (did, rse) in self.kept:
            self.renewals.append(self.kept[did, rse])
            return self.kept[did, rse]
        rule = f"rule-{len(self.kept) + 1}"
        self.kept[did, rse] = rule
        state, reason = self.first_state, ""
        if rse in self.bad_sites:
            state, reason = "STUCK", self.bad_sites[rse]
        self.rules[rule] = RuleState(state, reason)
        return rule

    async def rule(self, rule_id: str) -> RuleState | None:
        """Return a rule as the test has made it."""
        return self.rules.get(rule_id)

    async def release(self, rule_id: str, permit: Mapping[str, Any]) -> None:
        """Forget a rule."""
        self.rules.pop(rule_id, None)
        self.kept = {key: rule for key, rule in self.kept.items() if rule != rule_id}
        self.released.append(rule_id)


class FakeWebhooks:
    """Subscriptions in memory, one a name."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.away = False

    async def subscribe(self, permit: Mapping[str, Any], *, name: str, **wishes: Any) -> str:
        """Make one, or return the one of that name."""
        if self.away:
            raise Unavailable("notifications are away")
        self.made[f"sub-{name}"] = wishes
        return f"sub-{name}"

    async def unsubscribe(self, permit: Mapping[str, Any], subscription: str) -> None:
        """End one."""
        if self.away:
            raise Unavailable("notifications are away")
        self.made.pop(subscription, None)


class FakeTraffic:
    """Says what the test wants: which attempts are ready, how many requests are under way."""

    def __init__(self) -> None:
        self.unready: set[str] = set()
        self.all_unready = False
        self.under_way: dict[str, int] = {}
        self.dropped: list[str] = []
        self.switched: list[str] = []

    async def ready(self, attempt: str) -> bool:
        """Say whether it is ready."""
        return not self.all_unready and attempt not in self.unready

    def in_flight(self, attempt: str) -> int:
        """Return what the test set."""
        return self.under_way.get(attempt, 0)

    def switch(self, node_id: str) -> None:
        """Note it."""
        self.switched.append(node_id)

    async def drop(self, attempt: str) -> None:
        """Note it."""
        self.dropped.append(attempt)


class FakeCallbacks:
    """Takes callbacks, or raises what the test sets."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.trouble: list[TwinfraError] = []

    async def send(self, url: str, body: Mapping[str, Any], *, number: str) -> None:
        """Take one."""
        if self.trouble:
            raise self.trouble.pop(0)
        self.sent.append((number, dict(body)))


@dataclass
class Outbound:
    """Events that were told, and sites that are followed."""

    events: list[Event] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)

    async def add(self, _connection: Any, *events: Event) -> None:
        """Note events."""
        self.events += events

    def wake(self) -> None:
        """Do nothing: events are noted at once."""

    def ensure(self, target: Target) -> None:
        """Note a site."""
        self.followed.append(target.site)


class Orchestra:
    """All of it; make it by `Orchestra.tuned`.

    Args:
        database: migrated already.
        sites: that ranking knows, best first.
        twice: carry out every step twice.
        settings: of the service.
        base_url: of the service.
    """

    def __init__(
        self,
        database: Database,
        sites: Sequence[str] = ("hpc-b", "cloud-a"),
        *,
        twice: bool = False,
        settings: DeploymentsSettings | None = None,
        base_url: str = BASE_URL,
    ) -> None:
        self.clock = VirtualClock()
        self.engine = HandEngine(self.clock, twice=twice)
        self.out = Outbound()
        self.store = Store(database, self.out)
        self.store.use(self.engine)
        self.driver = FakeDriver()
        self.permits = FakePermits()
        self.ranking = FakeRanking(sites)
        self.data = FakeData("climate:scenarios")
        self.webhooks = FakeWebhooks()
        self.traffic = FakeTraffic()
        self.callbacks = FakeCallbacks()
        self.kit = Kit(
            store=self.store,
            driver=self.driver,
            permits=self.permits,
            ranking=self.ranking,
            data=self.data,
            webhooks=self.webhooks,
            traffic=self.traffic,
            callbacks=self.callbacks,
            watching=self.out,
            settings=settings or DeploymentsSettings(),
            clock=self.clock,
            new_id=new_uuid,
            base_url=base_url,
        )
        self.engine.use(workflows(self.kit))
        self.deployments = Deployments(self.kit)
        self.reactions = Reactions(self.kit)

    @classmethod
    async def tuned(cls, database: Database, *sites: str, **options: Any) -> "Orchestra":
        """Return one on a database that is migrated here."""
        await database.migrate(MIGRATIONS)
        return cls(database, sites or ("hpc-b", "cloud-a"), **options)

    def use_traffic(self, traffic: Traffic) -> None:
        """Let requests really be sent: take another traffic than the fake one."""
        self.kit = replace(self.kit, traffic=traffic)
        self.engine.use(workflows(self.kit))
        self.deployments, self.reactions = Deployments(self.kit), Reactions(self.kit)

    async def play(self, seconds: float = 0.0) -> None:
        """Turn the work, then let time pass in the steps in which work is due."""
        await self.engine.turn()
        end = self.clock.now() + timedelta(seconds=seconds)
        while (due := self.engine.soonest()) is not None and due <= end:
            await self.clock.advance(max(0.0, (due - self.clock.now()).total_seconds()))
            await self.engine.turn()
        await self.clock.advance(max(0.0, (end - self.clock.now()).total_seconds()))

    async def hear(self, event: Event) -> None:
        """Let the service hear an event, as its consumers do."""
        await self.reactions.happened(event)
        await self.play()
