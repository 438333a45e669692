"""An issuer for tests: keys in this process, discovery and keys over a socket, any token one likes.

It signs what it is told, good and broken, and answers ``POST /token`` to whoever asks; so it shows
what a service does with a token, and nothing about what an issuer may give: that is
``twinfra.access.issuer``. Runs in a thread: tests with and without an event loop can use it.
"""

import json
import sys
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs

from joserfc import jws
from joserfc.jwk import ECKey, KeyParameters, OctKey, RSAKey

from twinfra.access.authenticator import Authenticator
from twinfra.access.groups import format_entitlement
from twinfra.access.model import SERVICE_PREFIX, SERVICE_SCOPE, TrustedIssuer
from twinfra.access.settings import AccessSettings
from twinfra.core.home import Home
from twinfra.core.ids import new_uuid
from twinfra.core.settings import SettingsGroup
from twinfra.core.time import SYSTEM_CLOCK, Clock
from twinfra.core.tls import ServerTls, client_context, server_tls

AUDIENCE = "https://service.test"
NAMESPACE = "urn:geant:twinfra.test"
ALL_SCOPES = (
    "storage.read:/ storage.create:/ storage.modify:/ storage.stage:/ "
    "compute.read compute.create compute.modify compute.cancel"
)
SigningKey = RSAKey | ECKey | OctKey


def sign(header: Mapping[str, Any], claims: Mapping[str, Any] | bytes, key: SigningKey) -> str:
    """Return a compact JWS of any header and claims, however wrong, signed by `key`."""
    signed = f"{encode_part(header)}.{encode_part(claims)}"
    algorithm = jws.JWSRegistry.algorithms[str(header["alg"])]
    return f"{signed}.{encode_part(algorithm.sign(signed.encode(), key))}"


def encode_part(value: Mapping[str, Any] | bytes) -> str:
    """Return one part of a compact JWS, for building broken ones by hand."""
    body = value if isinstance(value, bytes) else json.dumps(dict(value)).encode()
    return urlsafe_b64encode(body).rstrip(b"=").decode()


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up, or that do not trust the certificate."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what is not the client's doing."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class TestIssuer:
    """An issuer on a loopback socket; use it as a context manager or call `start` and `stop`.

    Args:
        tls: serve over HTTPS with these files, else over plain HTTP.
        port: to listen on; 0: a free one.
        algorithm: ``ES256``, whose keys are made in no time, or ``RS256``.
        clock: tells the moment that tokens are made at.
        inner: tokens follow the federation's own issuer (service tokens, ``act``), as by default.
    """

    __test__: ClassVar[bool] = False

    def __init__(
        self,
        *,
        tls: ServerTls | None = None,
        port: int = 0,
        algorithm: str = "ES256",
        clock: Clock = SYSTEM_CLOCK,
        inner: bool = True,
    ) -> None:
        self._tls, self._clock, self._inner = tls, clock, inner
        self.algorithm = algorithm
        self.keys: list[RSAKey | ECKey] = []
        self.requests: list[str] = []
        self.answers: dict[str, Callable[[], tuple[int, dict[str, str], bytes]]] = {}
        self._server = _Server(("127.0.0.1", port), self._handler())
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        if tls:
            self._server.socket = tls.context().wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{scheme}://{host}:{self._server.server_address[1]}"
        self._thread: Thread | None = None
        self.rotate()

    @classmethod
    def for_home(cls, home: Home, **options: Any) -> Self:
        """Return an issuer that stands where `home` says that the federation's issuer is.

        Services built by their ``wiring.build`` on that home then believe it.
        """
        return cls(tls=server_tls(home.tls), port=home.port("issuer"), **options)

    def start(self) -> Self:
        """Serve from now on."""
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving; the socket is closed, tokens can still be made."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def key(self) -> RSAKey | ECKey:
        """The key that signs now."""
        return self.keys[-1]

    def rotate(self, *, withdraw: bool = False) -> None:
        """Sign with a new key from now on; `withdraw` also takes the old ones out of the JWKS."""
        if withdraw:
            self.keys.clear()
        about: KeyParameters = {
            "kid": f"test-{new_uuid()[:8]}",
            "use": "sig",
            "alg": self.algorithm,
        }
        if self.algorithm.startswith("ES"):
            self.keys.append(ECKey.generate_key("P-256", about))
        else:
            self.keys.append(RSAKey.generate_key(2048, about))

    def trust(self, **options: Any) -> TrustedIssuer:
        """Return how a service trusts this issuer."""
        return TrustedIssuer(issuer=self.url, inner=self._inner, **options)

    def authenticator(
        self, audience: str | Iterable[str] = AUDIENCE, **settings: Any
    ) -> Authenticator:
        """Return an authenticator that trusts this issuer alone."""
        return Authenticator(
            [self.trust()],
            audience if isinstance(audience, str) else list(audience),
            tls=client_context(self._tls.cafile) if self._tls else None,
            clock=self._clock,
            settings=_settings(AccessSettings, settings),
        )

    def claims(
        self,
        sub: str = "alice",
        groups: Iterable[str] = ("climate",),
        *,
        aud: str | list[str] = AUDIENCE,
        scope: str = "",
        expires_in: float = 3600,
        **more: Any,
    ) -> dict[str, Any]:
        """Return the claims of a good token; `more` adds or replaces some, None takes one away."""
        now = int(self._clock.now().timestamp())
        names = list(groups)
        claims = {
            "iss": self.url,
            "sub": sub,
            "aud": aud,
            "iat": now,
            "nbf": now,
            "exp": now + int(expires_in),
            "jti": new_uuid(),
            "client_id": "twinfra-cli",
            "scope": scope,
            "wlcg.ver": "1.0",
            "wlcg.groups": [f"/{name}" for name in names],
            "entitlements": [
                format_entitlement(NAMESPACE, name, authority="twinfra.test") for name in names
            ],
            **more,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, sub: str = "alice", groups: Iterable[str] = ("climate",), **more: Any) -> str:
        """Return a good token of a person; arguments as for `claims`."""
        return self.sign(self.claims(sub, groups, **more))

    def service_token(self, name: str, *, aud: str = AUDIENCE, **more: Any) -> str:
        """Return a good token of the service `name` for itself."""
        facts = {"client_id": name, "scope": SERVICE_SCOPE, **more}
        return self.sign(self.claims(SERVICE_PREFIX + name, (), aud=aud, **facts))

    def sign(self, claims: Mapping[str, Any] | bytes, **header: Any) -> str:
        """Return `claims` signed by the present key; `header` adds or replaces members."""
        base = {"alg": self.algorithm, "typ": "at+jwt", "kid": self.key.kid}
        full = {name: value for name, value in {**base, **header}.items() if value is not None}
        return sign(full, claims, self.key)

    def forged(self, **more: Any) -> str:
        """Return a token with the right key's name, signed by another key."""
        claims, header = self.claims(**more), {"alg": self.algorithm, "kid": self.key.kid}
        other = TestIssuer(algorithm=self.algorithm)
        try:
            return sign({**header, "typ": "at+jwt"}, claims, other.key)
        finally:
            other.stop()

    def expired(self, **more: Any) -> str:
        """Return a token that ended a minute ago."""
        now = int(self._clock.now().timestamp())
        times = {"iat": now - 3600, "nbf": now - 3600, "expires_in": -60}
        return self.token(**{**times, **more})

    def unsigned(self, **more: Any) -> str:
        """Return a token of algorithm ``none``."""
        header = {"alg": "none", "typ": "at+jwt", "kid": self.key.kid}
        return f"{encode_part(header)}.{encode_part(self.claims(**more))}."

    def _document(self, path: str) -> Any:
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "token_endpoint": f"{self.url}/token",
            }
        if path == "/jwks":
            return {"keys": [key.as_dict(private=False) for key in self.keys]}
        return None

    def _grant(self, form: Mapping[str, str], client: str) -> dict[str, Any]:
        """Give whatever is asked for: service tokens, exchanges and refreshed delegations."""
        aud = form.get("resource") or form.get("audience") or self.url
        scope = form.get("scope", "")
        if form["grant_type"] == "client_credentials":
            token = self.service_token(client, aud=aud, scope=scope or SERVICE_SCOPE)
            return {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        subject = form.get("subject_token") or form["refresh_token"]
        said = json.loads(_decode_part(subject.split(".")[1]))
        kept = {name: said[name] for name in ("wlcg.groups", "entitlements") if name in said}
        act = {"sub": SERVICE_PREFIX + client}
        facts = {"client_id": client, "act": act, "orig_iss": said.get("orig_iss"), **kept}
        token = self.token(said["sub"], (), aud=aud, scope=scope, **facts)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        if "offline_access" in scope.split():
            answer |= {"refresh_token": subject, "refresh_expires_in": 86400}
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                if self.path in issuer.answers:
                    self._send(*issuer.answers[self.path]())
                    return
                document = issuer._document(self.path)
                body = json.dumps(document).encode()
                self._send(404 if document is None else 200, {}, body)

            def do_POST(self) -> None:
                issuer.requests.append(self.path)
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                form = {name: values[-1] for name, values in parse_qs(sent).items()}
                pair = self.headers.get("Authorization", "").partition(" ")[2]
                client = _decode_part(pair).decode().partition(":")[0] if pair else "twinfra-cli"
                body = b"{}" if self.path == "/revoke" else json.dumps(issuer._grant(form, client))
                self._send(200, {}, body if isinstance(body, bytes) else body.encode())

            def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        return Handler


def _settings(group: type[SettingsGroup], values: Mapping[str, Any]) -> Any:
    return group(**values)


def _decode_part(part: str) -> bytes:
    return b64decode(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4))
