"""The issuer's pages for people: sign in, approve a device, let a program in.

Plain forms, no script. Each form that acts for a signed-in person carries a word that only the
issuer's own page knows; one-time links and posted codes come from who can read the person's file.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import DictLoader, Environment

from twinfra.access.issuer.errors import OAuthError
from twinfra.access.issuer.grants import Kit
from twinfra.access.issuer.model import PUBLIC_CLIENTS, Subject
from twinfra.access.issuer.sign_in import (
    AuthorizeRequest,
    SignIn,
    check_challenge,
    check_redirect,
)
from twinfra.access.scopes import split_scope
from twinfra.core.errors import TwinfraError

COOKIE = "__Host-twinfra-issuer"
SAFETY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
SEE_OTHER = 303


class Pages:
    """The pages, over the use cases.

    Args:
        kit: of the use cases.
        sign_in: the use cases.
        service_urls: base URL by service name; where a one-time link may lead.
    """

    def __init__(
        self, kit: Kit, sign_in: SignIn, service_urls: Callable[[], Mapping[str, str]]
    ) -> None:
        self._kit, self._sign_in, self._urls = kit, sign_in, service_urls
        template = files("twinfra.access.issuer").joinpath("templates", "page.html").read_text()
        environment = Environment(loader=DictLoader({"page": template}), autoescape=True)
        self._template = environment.get_template("page")

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/authorize", self.authorize, methods=["GET", "POST"])
        router.add_api_route("/sign-in", self.signed_in, methods=["POST"])
        router.add_api_route("/device", self.device_page, methods=["GET"])
        router.add_api_route("/device", self.device_decided, methods=["POST"])
        router.add_api_route("/device/approve", self.device_approved, methods=["POST"])
        router.add_api_route("/tickets", self.ticket, methods=["POST"])
        router.add_api_route("/enter", self.enter, methods=["GET"])
        return router

    async def authorize(self, request: Request) -> Response:
        """Send the browser back with a code, after sign-in and, for programs, a yes."""
        params = dict(request.query_params)
        dashboard = self._urls().get("dashboard")
        try:
            check_redirect(params.get("client_id", ""), params.get("redirect_uri", ""), dashboard)
        except OAuthError as error:
            return self._page("error", status=400, text=error.detail)
        wish = self._request(params)
        try:
            _check_response_type(params)
            check_challenge(params)
            session, subject = await self._session(request)
            if subject is None:
                return self._page("sign_in", next=_here(request), people=self._people())
            if wish.client in PUBLIC_CLIENTS and not await _agreed(request, session):
                return self._page("consent", request=wish, subject=subject, word=_word(session))
            policy = self._kit.policy()
            wish = replace(wish, audiences=tuple(map(policy.audience, wish.audiences)))
            return _redirect(await self._sign_in.authorize(wish, subject))
        except OAuthError as error:
            return _redirect(wish.back(error=error.error, error_description=error.detail))

    async def signed_in(self, request: Request) -> Response:
        """Take a person and their code from the form; open a session and go on."""
        form = await request.form()
        onward = str(form.get("next", "/device"))
        try:
            subject = self._sign_in.check_person(str(form.get("person")), str(form.get("code")))
        except OAuthError as error:
            return self._page(
                "sign_in", status=403, next=onward, people=self._people(), text=error.detail
            )
        secret = await self._sign_in.open_session(subject)
        return _with_session(_redirect(self._onward(onward)), secret, self._kit)

    async def device_page(self, request: Request) -> Response:
        """Ask who is there, then which device they mean and whether it may."""
        session, subject = await self._session(request)
        if subject is None:
            return self._page("sign_in", next=_here(request), people=self._people())
        user_code = request.query_params.get("user_code", "")
        return self._page("device", subject=subject, user_code=user_code, word=_word(session))

    async def device_decided(self, request: Request) -> Response:
        """Take the person's yes or no about a device."""
        session, subject = await self._session(request)
        if subject is None or not await _agreed(request, session):
            return self._page("error", status=403, text="please open the page again")
        form = await request.form()
        allow = form.get("decision") == "allow"
        try:
            await self._sign_in.decide_device(str(form.get("user_code")), subject, allow=allow)
        except TwinfraError as error:
            return self._page("error", status=error.status, text=error.detail)
        return self._page("done", text="The device is signed in." if allow else "It was refused.")

    async def device_approved(self, request: Request) -> Response:
        """Approve a device with the person's code, without a browser."""
        form = await request.form()
        subject = self._sign_in.check_person(str(form.get("person")), str(form.get("code")))
        await self._sign_in.decide_device(str(form.get("user_code")), subject, allow=True)
        return JSONResponse({"status": "approved", "sub": subject.sub})

    async def ticket(self, request: Request) -> Response:
        """Give a one-time link to who knows the person's code."""
        form = await request.form()
        subject = self._sign_in.check_person(str(form.get("person")), str(form.get("code")))
        secret = await self._sign_in.ticket(subject)
        return JSONResponse({"ticket": secret, "expires_in": self._kit.settings.ticket_s})

    async def enter(self, request: Request) -> Response:
        """Follow a one-time link: open a session and go on to one of our services."""
        try:
            secret = await self._sign_in.enter(request.query_params.get("ticket", ""))
        except OAuthError as error:
            return self._page("error", status=403, text=error.detail)
        onward = self._onward(request.query_params.get("next", "/device"))
        return _with_session(_redirect(onward), secret, self._kit)

    def _request(self, params: Mapping[str, str]) -> AuthorizeRequest:
        return AuthorizeRequest(
            client=params["client_id"],
            redirect_uri=params["redirect_uri"],
            scopes=split_scope(params.get("scope")),
            audiences=tuple(filter(None, [params.get("resource") or params.get("audience")])),
            state=params.get("state", ""),
            nonce=params.get("nonce", ""),
            challenge=params.get("code_challenge", ""),
        )

    async def _session(self, request: Request) -> tuple[str, Subject | None]:
        secret = request.cookies.get(COOKIE, "")
        return secret, await self._sign_in.session(secret) if secret else None

    def _onward(self, target: str) -> str:
        """Return `target` if it is a page of ours or of a service of this federation."""
        parts = urlsplit(target)
        if not parts.scheme and not parts.netloc and target.startswith("/") and "\\" not in target:
            return target if not target.startswith("//") else "/device"
        known = (url for url in self._urls().values() if url.startswith("https://"))
        return (
            target if any(target == u or target.startswith(f"{u}/") for u in known) else "/device"
        )

    def _people(self) -> dict[str, str]:
        return {sub: person.name or sub for sub, person in self._kit.settings.people.items()}

    def _page(self, view: str, *, status: int = 200, **facts: Any) -> HTMLResponse:
        body = self._template.render(view=view, issuer=self._kit.url, **facts)
        return HTMLResponse(body, status, headers=SAFETY)


def _check_response_type(params: Mapping[str, str]) -> None:
    if params.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "only response_type=code is known here")


def _here(request: Request) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def _redirect(target: str) -> RedirectResponse:
    return RedirectResponse(target, SEE_OTHER, headers=SAFETY)


def _with_session(response: Response, secret: str, kit: Kit) -> Response:
    response.set_cookie(
        COOKIE,
        secret,
        max_age=kit.settings.session_s,
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )
    return response


def _word(session: str) -> str:
    """Return what a form of ours carries and another site's page cannot know."""
    return hashlib.sha256(f"form:{session}".encode()).hexdigest()


async def _agreed(request: Request, session: str) -> bool:
    if request.method != "POST":
        return False
    return (await request.form()).get("word") == _word(session)
