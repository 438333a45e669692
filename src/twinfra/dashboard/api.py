"""The web page's routes: sign-in by code and PKCE, the pages, and live events.

Pages are rendered here; a small script follows events and asks for parts anew. Nothing from
elsewhere is loaded, and the content policy says so.
"""

from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from jinja2 import Environment, PackageLoader, select_autoescape

from twinfra.access.authenticator import Authenticator
from twinfra.access.errors import TokenRefused
from twinfra.access.http import authenticated
from twinfra.access.jose import parse_jwt
from twinfra.access.login import IssuerClient
from twinfra.access.person_tokens import MemoryLogin, PersonTokens
from twinfra.core.errors import InvalidRequest, RateLimited, TwinfraError
from twinfra.core.http.app import create_app
from twinfra.core.quantities import format_bytes
from twinfra.dashboard.pages import Federation
from twinfra.dashboard.visits import COOKIE, Visit, Visits

POLICY = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STATIC = {"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Pages:
    """What the routes share.

    Args:
        federation: asks the services.
        visits: who is signed in.
        issuer: gives a client of the issuer for one sign-in.
        base_url: of this page.
        max_streams: live streams at once.
    """

    def __init__(
        self,
        federation: Federation,
        visits: Visits,
        issuer: Callable[[], IssuerClient],
        *,
        base_url: str,
        max_streams: int,
    ) -> None:
        self.federation, self.visits, self.issuer = federation, visits, issuer
        self.callback = f"{base_url}/callback"
        self.max_streams, self.streams = max_streams, 0
        self._templates = Environment(
            loader=PackageLoader("twinfra.dashboard"), autoescape=select_autoescape()
        )
        self._templates.filters["bytes"] = format_bytes

    def visit(self, request: Request) -> tuple[Visit, PersonTokens] | None:
        """Return the signed-in visit of a request, if it is one."""
        visit = self.visits.find(request.cookies.get(COOKIE))
        return (visit, visit.tokens) if visit is not None and visit.tokens is not None else None

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        text = self._templates.get_template(template).render(**values)
        return HTMLResponse(text, status, HEADERS)

    def to_login(self, request: Request) -> Response:
        """Send the browser to sign in, and back to where it wanted to go."""
        onward = quote(request.url.path)
        return RedirectResponse(f"/login?onward={onward}", 303, HEADERS)


def build_app(pages: Pages, authenticator: Authenticator) -> FastAPI:
    """Return the application."""
    app = create_app(
        "dashboard", title="twinfra web page", authenticate=authenticated(authenticator)
    )
    _add_sign_in(app, pages)
    _add_pages(app, pages)
    _add_live(app, pages)
    _add_static(app)
    return app


def _add_sign_in(app: FastAPI, pages: Pages) -> None:
    @app.get("/login", include_in_schema=False)
    async def login(onward: str = "/") -> Response:
        if not onward.startswith("/") or onward.startswith(("//", "/\\")):
            raise InvalidRequest("a page of this site can be gone to, nothing else")
        key, visit = pages.visits.begin(onward)
        issuer = pages.issuer()
        url = issuer.authorize_url(pages.callback, state=visit.state, verifier=visit.verifier)
        await issuer.close()
        return _with_cookie(RedirectResponse(url, 303, HEADERS), key)

    @app.get("/callback", include_in_schema=False)
    async def callback(
        request: Request, state: str = "", code: str = "", error: str = ""
    ) -> Response:
        key = request.cookies.get(COOKIE)
        visit = pages.visits.find(key)
        if visit is None or key is None or visit.tokens is not None or state != visit.state:
            raise InvalidRequest("this sign-in was not begun here; open the page again")
        if error:
            raise TokenRefused("missing", f"the issuer says {error}")
        issuer = pages.issuer()
        try:
            answer = await issuer.redeem(code, pages.callback, visit.verifier)
            fresh, tokens = pages.visits.admit(key, lambda: PersonTokens(issuer, MemoryLogin()))
        except TwinfraError:
            await issuer.close()
            raise
        await tokens.signed_in(answer)
        visit.person = tokens.sub or ""
        return _with_cookie(RedirectResponse(visit.onward, 303, HEADERS), fresh)

    @app.post("/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        pages.visits.end(request.cookies.get(COOKIE))
        answer = RedirectResponse("/login", 303, HEADERS)
        answer.delete_cookie(COOKIE, secure=True)
        return answer


def _with_cookie(answer: Response, key: str) -> Response:
    answer.set_cookie(COOKIE, key, secure=True, httponly=True, samesite="lax", path="/")
    return answer


def _add_pages(app: FastAPI, pages: Pages) -> None:
    async def overview_of(visit: Visit, tokens: PersonTokens) -> dict[str, Any]:
        groups = await _groups(tokens, pages)
        found = await pages.federation.overview(tokens, groups)
        return {"person": visit.person, "groups": groups, **found}

    @app.get("/", include_in_schema=False)
    async def overview(request: Request) -> Response:
        if (signed_in := pages.visit(request)) is None:
            return pages.to_login(request)
        return pages.render("overview.html", **await overview_of(*signed_in))

    @app.get("/parts/overview", include_in_schema=False)
    async def overview_part(request: Request) -> Response:
        if (signed_in := pages.visit(request)) is None:
            return Response(status_code=401)
        return pages.render("overview_part.html", **await overview_of(*signed_in))

    @app.get("/deployments/{deployment}", include_in_schema=False)
    async def deployment(request: Request, deployment: str) -> Response:
        if (signed_in := pages.visit(request)) is None:
            return pages.to_login(request)
        visit, tokens = signed_in
        try:
            found = await pages.federation.deployment(tokens, deployment)
        except TwinfraError as error:
            return pages.render("trouble.html", error.status, person=visit.person, error=error)
        return pages.render("deployment.html", person=visit.person, **found)


async def _groups(tokens: PersonTokens, pages: Pages) -> list[str]:
    """Return the visitor's groups, as the datasets service's scopes are named."""
    token = await tokens.token(pages.federation.client("datasets").base_url)
    claims = parse_jwt(token).claims
    return sorted(str(group).lstrip("/") for group in claims.get("wlcg.groups", []))


def _add_static(app: FastAPI) -> None:
    folder = resources.files("twinfra.dashboard").joinpath("static")
    bodies = {name: folder.joinpath(name).read_bytes() for name in STATIC}

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in STATIC:
            return Response(status_code=404)
        age = {"Cache-Control": "max-age=300"}
        return Response(bodies[name], media_type=STATIC[name], headers=age)


def _add_live(app: FastAPI, pages: Pages) -> None:
    @app.get("/live", include_in_schema=False)
    async def live(request: Request) -> Response:
        if (signed_in := pages.visit(request)) is None:
            return Response(status_code=401)
        if pages.streams >= pages.max_streams:
            raise RateLimited("too many pages are open", retry_after_s=10)
        client = pages.federation.client("notifications")
        token = await signed_in[1].token(client.base_url)
        last = request.headers.get("Last-Event-ID")
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}

        async def relay() -> AsyncIterator[bytes]:
            pages.streams += 1
            try:
                async with client.stream("GET", "/events", headers=headers, token=token) as answer:
                    async for line in answer.content:
                        if not line.startswith(b"event:"):  # else onmessage never hears of it
                            yield line
            finally:
                pages.streams -= 1

        return StreamingResponse(relay(), media_type="text/event-stream", headers=HEADERS)
