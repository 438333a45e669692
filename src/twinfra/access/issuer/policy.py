"""What the issuer may give: scopes to people by their groups, exchanges to services by rules. Pure.

Whatever is not allowed by a rule is refused; a service never gets more than the person's token had.
"""

from collections.abc import Iterable, Mapping

from twinfra.access.authorization import matches_service
from twinfra.access.errors import TokenRefused
from twinfra.access.issuer.errors import OAuthError
from twinfra.access.issuer.settings import ExchangeRule, IssuerServiceSettings
from twinfra.access.model import SERVICE_SCOPE
from twinfra.access.scopes import OFFLINE_ACCESS, includes
from twinfra.access.storage_scopes import parse_storage_scope

LOGIN_SCOPES = frozenset({"openid", "profile", OFFLINE_ACCESS})
MAX_SCOPES = 64


class Policy:
    """The rules of the settings, asked one question at a time.

    Args:
        settings: of the issuer.
        audiences: base URL by service name, of the federation.
    """

    def __init__(self, settings: IssuerServiceSettings, audiences: Mapping[str, str]) -> None:
        self._settings = settings
        self._urls = audiences

    def person_scopes(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Return the capability scopes that members of `groups` may have."""
        mine = set(groups)
        allowed = [
            scope
            for rule in self._settings.scopes
            if mine & set(rule.groups) or ("*" in rule.groups and mine)
            for scope in rule.scopes
        ]
        return tuple(dict.fromkeys(allowed))

    def login_scopes(self, wanted: tuple[str, ...], groups: Iterable[str]) -> tuple[str, ...]:
        """Return what a person's login grants: as asked for, or all that they may have.

        Raises:
            OAuthError: ``invalid_scope``.
        """
        allowed = self.person_scopes(groups)
        capabilities = tuple(scope for scope in wanted if scope not in LOGIN_SCOPES)
        self.require_included(allowed, capabilities)
        plain = tuple(scope for scope in wanted if scope in LOGIN_SCOPES)
        return (*plain, *(capabilities or allowed))

    def service_scopes(self, client: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Return what service `client` gets for itself.

        Raises:
            OAuthError: ``invalid_scope``.
        """
        rule = self.rule(client)
        self.require_included((SERVICE_SCOPE, *(rule.own_scopes if rule else ())), wanted)
        return wanted or (SERVICE_SCOPE,)

    def rule(self, client: str) -> ExchangeRule | None:
        """Return the rule for service `client`, if it has one."""
        return next(
            (rule for rule in self._settings.exchange if matches_service(client, rule.client)), None
        )

    def check_exchange(
        self,
        client: str,
        *,
        audiences: Iterable[str],
        wanted: tuple[str, ...],
        bound: tuple[str, ...],
    ) -> tuple[str, ...]:
        """Return the scopes that `client` gets on behalf of a person whose right is `bound`.

        Raises:
            OAuthError: ``unauthorized_client``, ``invalid_target`` or ``invalid_scope``.
        """
        rule = self.rule(client)
        if rule is None:
            raise OAuthError("unauthorized_client", f"{client} may not act for people")
        for name in map(self.name_of, audiences):
            if not any(matches_service(name, pattern) for pattern in rule.audiences):
                raise OAuthError("invalid_target", f"{client} may not act for people at {name}")
        capabilities = tuple(scope for scope in wanted if scope != OFFLINE_ACCESS)
        for scope in capabilities:
            if not any(_in_family(scope, family) for family in rule.scopes):
                raise OAuthError("invalid_scope", f"{client} may not ask for {scope}")
        self.require_included(bound, capabilities)
        if OFFLINE_ACCESS in wanted and not rule.delegate:
            raise OAuthError("invalid_scope", f"{client} may not hold a delegation")
        return capabilities

    def delegable(self, client: str, bound: Iterable[str]) -> tuple[str, ...]:
        """Return the part of `bound` that a delegation to `client` carries."""
        rule = self.rule(client)
        families = rule.scopes if rule else ()
        return tuple(s for s in bound if any(_in_family(s, family) for family in families))

    @staticmethod
    def require_included(allowed: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        """Return if `allowed` gives all that `wanted` does.

        Raises:
            OAuthError: ``invalid_scope``.
        """
        if len(wanted) > MAX_SCOPES:
            raise OAuthError("invalid_scope", f"at most {MAX_SCOPES} scopes can be asked for")
        for scope in wanted:
            try:
                parse_storage_scope(scope)
            except TokenRefused as refusal:
                raise OAuthError("invalid_scope", refusal.detail) from refusal
            if not includes(allowed, scope):
                raise OAuthError("invalid_scope", f"{scope} is more than may be given here")

    @staticmethod
    def still_allowed(scopes: tuple[str, ...], present: tuple[str, ...]) -> tuple[str, ...]:
        """Return what of `scopes` a person may have whose rights are now `present`."""
        return tuple(s for s in scopes if s in LOGIN_SCOPES or includes(present, s))

    def urls_of(self, client: str) -> tuple[str, ...]:
        """Return the base URL of service `client`, if it has one."""
        return (self._urls[client],) if client in self._urls else ()

    def audience(self, named: str) -> str:
        """Return the base URL meant by `named`: a service's URL or its name.

        Raises:
            OAuthError: ``invalid_target``: no service of this federation.
        """
        url = self._urls.get(named, named.rstrip("/"))
        if url not in self._urls.values():
            raise OAuthError("invalid_target", "no service of this federation has that name or URL")
        return url

    def name_of(self, url: str) -> str:
        """Return the name of the service at `url`.

        Raises:
            OAuthError: ``invalid_target``: there is none.
        """
        for name, known in self._urls.items():
            if known == url:
                return name
        raise OAuthError("invalid_target", "no service of this federation has that URL")


def _in_family(scope: str, family: str) -> bool:
    return scope.startswith(family[:-1]) if family.endswith(".*") else scope == family
