"""A real OpenID Connect provider of somebody else (npm ``oidc-provider``) as an outside issuer.

Shows that we do not only accept our own tokens. Its files stand under ``tests/servers``; the caller
names them and the installed modules.
"""

import asyncio
import json
import re
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp

from twinfra.core.tls import ServerTls, client_context
from twinfra.testkit.ports import LOOPBACK, free_port, listening
from twinfra.testkit.processes import running

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT = "device"
MAX_FORMS = 6


@dataclass(frozen=True)
class OidcProvider:
    """A running provider; `login` gives tokens of its people."""

    issuer: str
    tls: ssl.SSLContext

    async def login(self, person: str, resource: str, scope: str = "openid") -> str:
        """Sign `person` in by the device flow, filling in the provider's pages.

        Returns:
            An access token for `resource`.
        """
        connector = aiohttp.TCPConnector(ssl=self.tls)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(f"{self.issuer}/.well-known/openid-configuration") as answer:
                endpoints = await answer.json()
            form = {"client_id": CLIENT, "scope": scope, "resource": resource}
            place = endpoints["device_authorization_endpoint"]
            async with session.post(place, data=form) as answer:
                started = await answer.json()
            await self._fill_in(session, started["verification_uri_complete"], person)
            form = {"grant_type": DEVICE, "client_id": CLIENT, "resource": resource}
            form["device_code"] = started["device_code"]
            async with session.post(endpoints["token_endpoint"], data=form) as answer:
                tokens: dict[str, Any] = await answer.json()
        assert "access_token" in tokens, tokens
        # its sockets close in the next turn of the loop
        await asyncio.sleep(0)
        return str(tokens["access_token"])

    async def _fill_in(self, session: aiohttp.ClientSession, page: str, person: str) -> None:
        """Post each form that the provider shows until it shows none."""
        async with session.get(page) as answer:
            html, here = await answer.text(), answer.url
        for _ in range(MAX_FORMS):
            form = re.search(r"<form[^>]*action=\"([^\"]+)\".*?</form>", html, re.DOTALL)
            if form is None:
                return
            fields = {
                unescape(name): unescape(value)
                for name, value in re.findall(
                    r"<input[^>]*name=\"([^\"]+)\"[^>]*value=\"([^\"]*)\"", form[0]
                )
            }
            fields |= {"login": person, "password": "any"} if 'name="login"' in form[0] else {}
            target = here.join(type(here)(unescape(form[1])))
            async with session.post(target, data=fields) as answer:
                html, here = await answer.text(), answer.url
        raise AssertionError("the provider's forms never end")


@contextmanager
def oidc_provider(
    folder: Path,
    *,
    script: Path,
    modules: Path,
    tls: ServerTls,
    claims: Mapping[str, Mapping[str, Any]],
    scopes: Sequence[str] = (),
) -> Iterator[OidcProvider]:
    """Run the provider until the block ends.

    Args:
        folder: for its configuration and log.
        script: ``server.mjs``.
        modules: folder whose ``node_modules`` holds the package.
        tls: its certificate, for ``localhost``.
        claims: further claims of access tokens, by person.
        scopes: that it knows besides ``openid``.
    """
    port = free_port()
    issuer = f"https://localhost:{port}"
    config = {
        "modules": str(modules),
        "issuer": issuer,
        "port": port,
        "certfile": str(tls.certfile),
        "keyfile": str(tls.keyfile),
        "scopes": list(scopes),
        "claims": {person: dict(values) for person, values in claims.items()},
    }
    file = folder / "oidc-provider.json"
    file.write_text(json.dumps(config))
    # Debian 12's own is too old for the provider; the wheel's stands beside our interpreter
    node = Path(sys.executable).with_name("node")
    argv: list[str | Path] = [node, script, file]
    ready = lambda: listening(port, LOOPBACK)  # noqa: E731 - short and used once
    with running(argv, log=folder / "oidc-provider.log", ready=ready):
        yield OidcProvider(issuer, client_context(tls.cafile))
