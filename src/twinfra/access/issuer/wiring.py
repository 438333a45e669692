"""Builds the development issuer."""

import secrets

from twinfra.access.authenticator import Authenticator, trusted_issuers
from twinfra.access.issuer.api import TokenApi
from twinfra.access.issuer.clients import Clients
from twinfra.access.issuer.grants import Kit
from twinfra.access.issuer.pages import Pages
from twinfra.access.issuer.policy import Policy
from twinfra.access.issuer.settings import IssuerServiceSettings
from twinfra.access.issuer.sign_in import SignIn
from twinfra.access.issuer.signing import SigningKeys
from twinfra.access.issuer.store import IssuerStore
from twinfra.access.login import person_code
from twinfra.access.settings import AccessSettings
from twinfra.core.home import Home
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context, Listener, Service
from twinfra.core.settings import UrlSettings
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

NAME = "issuer"
KEYS_FILE = "issuer-keys.json"
USER_CODE_LETTERS = 8
log = get_logger(__name__)


def build(ctx: Context) -> Service:
    """Return the issuer of the federation at ``ctx.home``."""
    settings = ctx.settings(IssuerServiceSettings)
    url, urls = ctx.url(NAME), ServiceUrls(ctx)
    keys = signing_keys(ctx.home, settings, ctx.clock)
    database = ctx.database(NAME)
    access = ctx.settings(AccessSettings)
    authenticator = Authenticator(
        trusted_issuers(ctx, access),
        url,
        tls=ctx.tls_client(),
        clock=ctx.clock,
        settings=access,
        keys={url: keys},
    )
    kit = Kit(
        url=url,
        settings=settings,
        policy=lambda: Policy(settings, urls()),
        store=IssuerStore(database),
        signer=keys,
        subject_tokens=authenticator,
        clock=ctx.clock,
        new_secret=lambda: secrets.token_urlsafe(32),
        new_id=new_uuid,
    )
    sign_in = SignIn(
        kit,
        person_code=lambda sub: person_code(ctx.home, sub),
        draw=lambda: [secrets.randbelow(1 << 16) for _ in range(USER_CODE_LETTERS)],
    )
    clients = Clients(ctx.home.secrets / "clients")
    app = TokenApi(kit, keys, clients, authenticator).app(sign_in)
    app.include_router(Pages(kit, sign_in, urls).router())

    async def migrate() -> None:
        await database.migrate("twinfra.access.issuer.migrations")

    async def announce() -> None:
        for sub in settings.people:
            person_code(ctx.home, sub)
        log.warning(
            "development_issuer_started",
            issuer=url,
            people=sorted(settings.people),
            advice="for one machine only; a real federation trusts its own issuer in [access]",
        )

    async def purge() -> None:
        while True:
            await kit.store.purge(ctx.clock.now())
            await ctx.clock.sleep(settings.purge_interval_s)

    return Service(
        name=NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[migrate, announce],
        background=[purge],
        stop=[database.close],
    )


def signing_keys(home: Home, settings: IssuerServiceSettings, clock: Clock) -> SigningKeys:
    """Return the keys of the issuer at `home`; `SigningKeys.rotate` adds one, from any process."""
    return SigningKeys(home.secrets / KEYS_FILE, settings.algorithm, clock.now())


class ServiceUrls:
    """The base URL of every service that this federation knows now, read anew when one is added."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._elsewhere = frozenset(ctx.settings(UrlSettings).urls)
        self._seen: int | None = None
        self._urls: dict[str, str] = {}

    def __call__(self) -> dict[str, str]:
        """Return base URLs by service name."""
        changed = self._ctx.home.ports_file.stat().st_mtime_ns
        if changed != self._seen:
            named = {*self._ctx.home.ports(), *self._elsewhere} - {"nats"}
            self._urls = {name: self._ctx.url(name) for name in sorted(named)}
            self._seen = changed
        return self._urls
