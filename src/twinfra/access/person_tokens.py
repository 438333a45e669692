"""A person's login and the access tokens that come of it, one for each service that is called.

A login is a refresh token, which the issuer replaces at each use: the new one is stored before the
answer is relied on, under a lock, for two programs of one person may run at once. Never prints a
token; ``login`` says how a login comes about.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from filelock import AsyncFileLock

from twinfra.access.errors import TokenRefused
from twinfra.access.jose import parse_jwt
from twinfra.access.login import LOGIN_SCOPE, IssuerClient, person_code
from twinfra.core.http.client import TokenSource
from twinfra.core.service import Context
from twinfra.core.time import SYSTEM_CLOCK, Clock, parse_rfc3339, rfc3339

USABLE_SHARE = 2 / 3


class LoginStore(Protocol):
    """Where one login is kept."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Keep others out while the login is read and replaced."""
        ...

    def read(self) -> dict[str, Any]:
        """Return the login; empty if there is none."""
        ...

    def write(self, login: Mapping[str, Any]) -> None:
        """Replace the login."""
        ...


class MemoryLogin:
    """A login that ends with the program."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._login: dict[str, Any] = {}

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep others out while the login is read and replaced."""
        async with self._lock:
            yield

    def read(self) -> dict[str, Any]:
        """Return the login; empty if there is none."""
        return dict(self._login)

    def write(self, login: Mapping[str, Any]) -> None:
        """Replace the login."""
        self._login = dict(login)


class FileLogin:
    """A login in a file that only its owner can read; replaced by rename."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep other programs out while the login is read and replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with AsyncFileLock(self._path.with_suffix(".lock")):
            yield

    def read(self) -> dict[str, Any]:
        """Return the login; empty if there is none."""
        try:
            return dict(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return {}

    def write(self, login: Mapping[str, Any]) -> None:
        """Replace the login."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(dict(login), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    def forget(self) -> None:
        """Delete the login; deleting it twice does nothing."""
        self._path.unlink(missing_ok=True)


class PersonTokens:
    """Gives access tokens of one signed-in person.

    Args:
        client: of the issuer.
        store: keeps the login.
        scope: capability scopes of every token; empty: all that the login has.
        clock: tells when a kept token is near its end.
    """

    def __init__(
        self,
        client: IssuerClient,
        store: LoginStore,
        *,
        scope: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client, self._store, self._scope, self._clock = client, store, scope, clock

    async def signed_in(self, answer: Mapping[str, Any]) -> None:
        """Keep the login that the issuer answered to `IssuerClient.device` or ``.redeem``."""
        async with self._store.locked():
            sub = parse_jwt(answer["access_token"]).claims["sub"]
            login = {"issuer": self._client.issuer, "sub": sub, "tokens": {}}
            self._store.write({**login, "refresh_token": answer["refresh_token"]})

    @property
    def sub(self) -> str | None:
        """Who is signed in, or none."""
        return self._store.read().get("sub")

    async def token(self, audience: str) -> str:
        """Return an access token for the service at `audience` (a base URL).

        Raises:
            TokenRefused: nobody is signed in, or the login has ended; sign in again.
        """
        key = f"{audience} {self._scope}"
        if (token := self._usable(self._store.read(), key)) is not None:
            return token
        async with self._store.locked():
            login = self._store.read()
            if (token := self._usable(login, key)) is not None:
                return token
            if login.get("issuer") != self._client.issuer:
                raise TokenRefused("missing", "nobody is signed in: twinfra login does it")
            answer = await self._client.refresh(login["refresh_token"], audience, self._scope)
            good_for = timedelta(seconds=float(answer["expires_in"]) * USABLE_SHARE)
            kept = {
                "token": answer["access_token"],
                "until": rfc3339(self._clock.now() + good_for),
            }
            login["refresh_token"] = answer.get("refresh_token", login["refresh_token"])
            login["tokens"] = {**self._still_good(login), key: kept}
            self._store.write(login)
            return str(answer["access_token"])

    def source(self, audience: str) -> TokenSource:
        """Return the token source that an `HttpClient` of `audience` takes."""

        async def give() -> str:
            return await self.token(audience)

        return give

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _usable(self, login: Mapping[str, Any], key: str) -> str | None:
        if login.get("issuer") != self._client.issuer:
            return None
        kept = self._still_good(login).get(key)
        return None if kept is None else str(kept["token"])

    def _still_good(self, login: Mapping[str, Any]) -> dict[str, Any]:
        now = self._clock.now()
        kept = login.get("tokens", {}).items()
        return {name: entry for name, entry in kept if parse_rfc3339(entry["until"]) > now}


async def sign_in_here(
    ctx: Context, person: str, store: LoginStore | None = None, *, scope: str = LOGIN_SCOPE
) -> PersonTokens:
    """Sign `person` in at the development issuer of a home that this program can read."""
    client = IssuerClient.from_context(ctx)
    tokens = PersonTokens(client, store or MemoryLogin(), clock=ctx.clock)
    try:
        code = person_code(ctx.home, person)
        answer = await client.device(lambda _: None, scope=scope, approve=(person, code))
        await tokens.signed_in(answer)
    except BaseException:
        await client.close()
        raise
    return tokens
