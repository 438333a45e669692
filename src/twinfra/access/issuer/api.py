"""The issuer's HTTP interface for programs: discovery, keys, tokens, revocation, introspection.

Source: OpenID Connect Discovery 1.0, RFC 8414, RFC 6749, RFC 7009 (revocation), RFC 7662
(introspection), RFC 8628 (device). Pages for people are in ``pages``.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData

from twinfra.access.authenticator import Authenticator
from twinfra.access.errors import TokenRefused
from twinfra.access.http import authenticated
from twinfra.access.issuer.clients import Clients
from twinfra.access.issuer.errors import InvalidClient, OAuthError
from twinfra.access.issuer.grants import Grants, Kit, Wish, digest_of
from twinfra.access.issuer.model import Client
from twinfra.access.issuer.sign_in import SignIn
from twinfra.access.issuer.signing import SigningKeys
from twinfra.access.jose import parse_jwt
from twinfra.access.model import Principal
from twinfra.access.scopes import split_scope
from twinfra.core.errors import TwinfraError
from twinfra.core.http.app import create_app, error_headers, render_problem

BODY_LIMIT_BYTES = 128 * 1024
REPEATABLE = frozenset({"resource", "audience"})
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ACCESS_TYPES = frozenset(
    {
        "urn:ietf:params:oauth:token-type:access_token",
        "urn:ietf:params:oauth:token-type:jwt",
    }
)


class TokenApi:
    """The routes, over the use cases.

    Args:
        kit: of the use cases.
        keys: published.
        clients: who may ask.
        authenticator: checks tokens for the issuer itself.
    """

    def __init__(
        self, kit: Kit, keys: SigningKeys, clients: Clients, authenticator: Authenticator
    ) -> None:
        self._kit, self._keys, self._clients = kit, keys, clients
        self._authenticator = authenticator
        self._grants = Grants(kit)

    def app(self, sign_in: SignIn) -> FastAPI:
        """Return the application, without the pages for people."""
        guard = authenticated(self._authenticator)
        app = create_app(
            "issuer",
            title="twinfra development issuer",
            authenticate=guard,
            render=render_oauth,
            body_limit_bytes=BODY_LIMIT_BYTES,
        )
        app.include_router(self._discovery())
        app.include_router(self._tokens(sign_in))
        app.include_router(self._about_tokens(guard))
        return app

    def _discovery(self) -> APIRouter:
        router = APIRouter(tags=["discovery"])

        @router.get("/.well-known/openid-configuration", summary="What the issuer can do")
        @router.get("/.well-known/oauth-authorization-server", include_in_schema=False)
        async def discovery() -> dict[str, Any]:
            return discovery_document(self._kit.url, self._kit.settings.algorithm)

        @router.get("/jwks", summary="The issuer's public keys")
        async def jwks() -> Response:
            return JSONResponse(self._keys.jwks(), headers={"Cache-Control": "max-age=300"})

        return router

    def _tokens(self, sign_in: SignIn) -> APIRouter:
        router = APIRouter(tags=["tokens"])

        @router.post("/token", summary="Ask for tokens")
        async def token(request: Request) -> Response:
            form = await _form(request)
            client = self._client(request, form)
            return JSONResponse(await self._grant(client, form), headers=NO_STORE)

        @router.post("/device_authorization", summary="Start the login of a device")
        async def device(request: Request) -> Response:
            form = await _form(request)
            client, wish = self._client(request, form), self._wish(form)
            return JSONResponse(await sign_in.start_device(client, wish), headers=NO_STORE)

        return router

    def _about_tokens(self, guard: Callable[[Request], Awaitable[Principal]]) -> APIRouter:
        router = APIRouter(tags=["tokens"])

        @router.post("/introspect", summary="Is this token good?")
        async def introspect(request: Request) -> Response:
            form = await _form(request)
            client = self._client(request, form)
            if client.public:
                raise InvalidClient
            return JSONResponse(await self._introspect(client, _one(form, "token")))

        @router.post("/revoke", summary="End a token")
        async def revoke(request: Request) -> Response:
            form = await _form(request)
            await self._revoke(self._client(request, form), _one(form, "token"))
            return Response(status_code=200)

        @router.get("/userinfo", summary="Who am I?")
        async def userinfo(principal: Annotated[Principal, Depends(guard)]) -> dict[str, Any]:
            person = self._kit.settings.people.get(principal.sub)
            return {
                "sub": principal.sub,
                "name": (person.name if person else "") or principal.sub,
                "groups": sorted(principal.groups),
            }

        return router

    def _client(self, request: Request, form: FormData) -> Client:
        return self._clients.authenticate(
            request.headers.get("authorization"),
            _optional(form, "client_id"),
            _optional(form, "client_secret"),
        )

    def _wish(self, form: FormData) -> Wish:
        named = [str(value) for key, value in form.multi_items() if key in REPEATABLE and value]
        policy = self._kit.policy()
        audiences = tuple(dict.fromkeys(policy.audience(name) for name in named))
        return Wish(audiences=audiences, scopes=split_scope(_optional(form, "scope")))

    async def _grant(self, client: Client, form: FormData) -> dict[str, Any]:
        kind, wish = _one(form, "grant_type"), self._wish(form)
        if kind == "client_credentials":
            return await self._grants.client_credentials(client, wish)
        if kind == "refresh_token":
            return await self._grants.refresh(client, wish, _one(form, "refresh_token"))
        if kind == DEVICE:
            return await self._grants.device_code(client, wish, _one(form, "device_code"))
        if kind == "authorization_code":
            return await self._grants.authorization_code(
                client,
                wish,
                _one(form, "code"),
                redirect_uri=_one(form, "redirect_uri"),
                verifier=_one(form, "code_verifier"),
            )
        if kind == EXCHANGE:
            return await self._exchange(client, wish, form)
        raise OAuthError("unsupported_grant_type", "no such grant type here")

    async def _exchange(self, client: Client, wish: Wish, form: FormData) -> dict[str, Any]:
        wanted = _optional(form, "requested_token_type")
        if _one(form, "subject_token_type") not in ACCESS_TYPES or (
            wanted is not None and wanted not in ACCESS_TYPES
        ):
            raise OAuthError("invalid_request", "only access tokens can be exchanged, for such")
        if "actor_token" in form:
            raise OAuthError(
                "invalid_request", "the actor is the client itself; send no actor_token"
            )
        return await self._grants.exchange(client, wish, _one(form, "subject_token"))

    async def _introspect(self, client: Client, token: str) -> dict[str, Any]:
        """Say what a token is; a token that is not good is inactive, whatever the reason."""
        try:
            claims = parse_jwt(token).claims
            named = claims.get("aud")
            audiences = {named} if isinstance(named, str) else set(named or ())
            principal = await self._authenticator.authenticate(token, audiences)
        except (TokenRefused, TypeError):
            kept = await self._kit.store.find_refresh(digest_of(token))
            good = kept and kept.client == client.name and kept.used_at is None
            if not kept or not good or kept.expires_at <= self._kit.clock.now():
                return {"active": False}
            return {"active": True, "client_id": kept.client, "sub": kept.subject.sub}
        revoked = await self._kit.store.is_revoked(str(claims.get("jti")))
        own = principal.token_issuer == self._kit.url
        return {"active": True, **claims} if own and not revoked else {"active": False}

    async def _revoke(self, client: Client, token: str) -> None:
        """End a token of `client`; whatever else is sent changes nothing (RFC 7009 §2.2)."""
        kept = await self._kit.store.find_refresh(digest_of(token))
        if kept is not None:
            if kept.client == client.name:
                await self._kit.store.end_family(kept.family)
            return
        try:
            claims = parse_jwt(token).claims
            principal = await self._authenticator.authenticate(token, {str(claims.get("aud"))})
        except TokenRefused:
            return
        ours = principal.token_issuer == self._kit.url and principal.client_id == client.name
        if ours and principal.expires_at is not None:
            await self._kit.store.revoke(str(claims["jti"]), principal.expires_at)


def discovery_document(url: str, algorithm: str) -> dict[str, Any]:
    """Return what the issuer can do (OpenID Connect Discovery 1.0 §3, RFC 8414 §2)."""
    return {
        "issuer": url,
        "jwks_uri": f"{url}/jwks",
        "token_endpoint": f"{url}/token",
        "authorization_endpoint": f"{url}/authorize",
        "device_authorization_endpoint": f"{url}/device_authorization",
        "introspection_endpoint": f"{url}/introspect",
        "revocation_endpoint": f"{url}/revoke",
        "userinfo_endpoint": f"{url}/userinfo",
        "grant_types_supported": [
            "authorization_code",
            "client_credentials",
            "refresh_token",
            DEVICE,
            EXCHANGE,
        ],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [algorithm],
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
            "none",
        ],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "scopes_supported": [
            "openid",
            "profile",
            "offline_access",
            "twinfra.service",
            "storage.read:/",
            "storage.create:/",
            "storage.modify:/",
            "storage.stage:/",
            "compute.read",
            "compute.create",
            "compute.modify",
            "compute.cancel",
        ],
        "claims_supported": ["sub", "name", "groups", "wlcg.groups", "entitlements", "act"],
    }


def render_oauth(request: Request, error: TwinfraError) -> Response:
    """Answer an OAuth refusal as RFC 6749 §5.2 says, all else as problem details."""
    if not isinstance(error, OAuthError | InvalidClient):
        return render_problem(request, error)
    body = {"error": error.error, "error_description": error.detail}
    return JSONResponse(body, error.status, {**error_headers(error), **NO_STORE})


async def _form(request: Request) -> FormData:
    """Read the form; a parameter that is sent twice is refused (RFC 6749 §3.2)."""
    form = await request.form(max_files=0, max_fields=100)
    seen: set[str] = set()
    for name, value in form.multi_items():
        if not isinstance(value, str) or (name in seen and name not in REPEATABLE):
            raise OAuthError("invalid_request", f"{name} is sent twice or is no text")
        seen.add(name)
    return form


def _optional(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


def _one(form: FormData, name: str) -> str:
    value = _optional(form, name)
    if value is None:
        raise OAuthError("invalid_request", f"{name} is missing")
    return value
