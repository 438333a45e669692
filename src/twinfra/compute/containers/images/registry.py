"""Pulls an image from a registry into an OCI layout, every byte checked against its digest.

It must not decide which registries are trusted: its neighbour `pulling.py` does. Source: OCI
distribution-spec 1.1, pull; Docker registry token authentication.
"""

import base64
import hashlib
import json
import re
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from twinfra.compute.containers.images.layout import Descriptor, Layout, descriptor_of
from twinfra.compute.containers.images.model import (
    MEDIA_INDEX,
    MEDIA_MANIFEST,
    Reference,
    parse_reference,
)
from twinfra.compute.containers.images.names import (
    DOCKER_HUB,
    DOCKER_HUB_API,
    Credential,
    host_of,
    whole_name,
)
from twinfra.core.errors import (
    InsufficientScope,
    NotFound,
    SiteRejected,
    Unavailable,
    UpstreamFault,
    shorten,
)

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = f"{MEDIA_MANIFEST}, {MEDIA_INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
MANIFEST_BYTES = 4 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
CONNECT_S, SILENCE_S = 15.0, 60.0
NOTHING = ("unknown", "unknown", "")
"""What builders say of entries that are no image, such as attestations."""
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class RegistryPull:
    """One pull of one image.

    Args:
        reference: with its registry.
        credential: of an account there.
        plain: speak HTTP without TLS.
        tls: to check the registry's certificate; none: by the system's authorities.
    """

    def __init__(
        self,
        reference: str,
        credential: Credential | None,
        *,
        plain: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        whole = whole_name(reference)
        host = host_of(whole)
        self._wanted: Reference = parse_reference(whole)
        self._repository = self._wanted.name.partition("/")[2]
        self._base = f"{'http' if plain else 'https'}://{_api(host)}/v2/{self._repository}"
        self._credential, self._plain, self._tls = credential, plain, tls
        self._headers: dict[str, str] = {}

    async def into(self, layout: Layout, name: str, architecture: str) -> None:
        """Bring the image for one architecture in, named `name`; what is there is not brought.

        Raises:
            NotFound: the registry has no such image, or not for this architecture.
            InsufficientScope: it does not give it to this account.
            SiteRejected: what came is not what its digest says, or no image.
            Unavailable: the registry does not answer (retryable).
        """
        layout.create()
        async with _session() as session:
            manifest, body = await self._image(session, layout, architecture)
            for part in (body["config"], *body["layers"]):
                await self._blob(session, layout, descriptor_of(part))
        layout.name(name, manifest, architecture)

    async def platforms(self) -> frozenset[tuple[str, str, str]]:
        """Return what the image is made for: os, architecture and variant, which may be empty.

        Empty where the image does not say so of all its parts. Raises as `into` does.
        """
        named = self._wanted.digest or self._wanted.tag
        async with _session() as session:
            kind, _, body = await self._fetch(session, named, self._wanted.digest)
            if kind in {MEDIA_INDEX, DOCKER_INDEX}:
                found = [_platform(item.get("platform") or {}) for item in body["manifests"]]
            else:
                wanted = descriptor_of(body["config"])
                url = f"{self._base}/blobs/{wanted.digest}"
                _, data = await self._small(session, url, {}, wanted.digest)
                found = [_platform(_object(data))]
        known = frozenset(each for each in found if each != NOTHING)
        return frozenset() if any(not (os and made) for os, made, _ in known) else known

    async def _image(
        self, session: aiohttp.ClientSession, layout: Layout, architecture: str
    ) -> tuple[Descriptor, dict[str, Any]]:
        """Return the manifest for an architecture, itself or chosen from an index."""
        found, body = await self._manifest(
            session, layout, self._wanted.digest or self._wanted.tag, self._wanted.digest
        )
        if found.media_type not in {MEDIA_INDEX, DOCKER_INDEX}:
            return found, body
        for item in body["manifests"]:
            platform = item.get("platform", {})
            if (platform.get("os", "linux"), platform.get("architecture")) == (
                "linux",
                architecture,
            ):
                return await self._manifest(session, layout, item["digest"], item["digest"])
        raise NotFound(f"the image is not made for {architecture}")

    async def _manifest(
        self, session: aiohttp.ClientSession, layout: Layout, named: str, digest: str
    ) -> tuple[Descriptor, dict[str, Any]]:
        kind, data, body = await self._fetch(session, named, digest)
        return layout.put(kind, data), body

    async def _fetch(
        self, session: aiohttp.ClientSession, named: str, digest: str
    ) -> tuple[str, bytes, dict[str, Any]]:
        """Return a manifest or an index: its media type, its bytes, what it says."""
        url = f"{self._base}/manifests/{named}"
        kind, data = await self._small(session, url, {"Accept": ACCEPT}, digest)
        body = _object(data)
        return str(body.get("mediaType") or kind), data, body

    async def _small(
        self, session: aiohttp.ClientSession, url: str, headers: dict[str, str], digest: str
    ) -> tuple[str, bytes]:
        """Return a small document, and the type that the registry gives it."""
        async with self._get(session, url, headers) as answer:
            data = await _bounded(answer)
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if digest and f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise SiteRejected("the registry's manifest is not what its digest says")
        return kind, data

    async def _blob(
        self, session: aiohttp.ClientSession, layout: Layout, wanted: Descriptor
    ) -> None:
        if layout.blob(wanted.digest).is_file():
            return
        hashed, size_bytes = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(
            dir=layout.path, prefix=".pulling-", delete=False
        ) as draft:
            path = Path(draft.name)
            try:
                async with self._get(session, f"{self._base}/blobs/{wanted.digest}", {}) as answer:
                    async for piece in answer.content.iter_chunked(CHUNK_BYTES):
                        size_bytes += len(piece)
                        if size_bytes > wanted.size_bytes:
                            break
                        hashed.update(piece)
                        draft.write(piece)
                if f"sha256:{hashed.hexdigest()}" != wanted.digest:
                    raise SiteRejected(f"blob {wanted.digest} is not what its digest says")
                draft.flush()
                layout.adopt(wanted.media_type, path, wanted.digest)
            finally:
                path.unlink(missing_ok=True)  # noqa: ASYNC240 - this loop has nothing else to do

    @asynccontextmanager
    async def _get(
        self, session: aiohttp.ClientSession, url: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give an answer of 200; who we are is shown when the registry asks for it, once."""
        for last in (False, True):
            sent = {**headers, **self._headers}
            async with session.get(url, headers=sent, ssl=self._tls or True) as answer:
                if answer.status == 401 and not last:
                    self._headers = await self._authorization(session, answer)
                    continue
                if answer.status in {401, 403}:
                    raise InsufficientScope(f"the registry does not give out {self._repository}")
                if answer.status == 404:
                    raise NotFound(f"the registry has no {self._wanted.name}:{self._wanted.tag}")
                if answer.status in {429, 502, 503, 504}:
                    raise Unavailable(f"the registry answered {answer.status}")
                if answer.status != 200:
                    raise UpstreamFault(f"the registry answered {answer.status}")
                yield answer
                return

    async def _authorization(
        self, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse
    ) -> dict[str, str]:
        challenge = answer.headers.get("WWW-Authenticate", "")
        kind, _, rest = challenge.partition(" ")
        basic = {} if self._credential is None else _basic(self._credential)
        if kind.lower() == "basic":
            return basic
        fields = dict(_CHALLENGE.findall(rest))
        realm = fields.get("realm", "")
        scheme = urlsplit(realm).scheme
        if kind.lower() != "bearer" or scheme not in (
            {"https", "http"} if self._plain else {"https"}
        ):
            raise UpstreamFault("the registry asks for a kind of proof that is not known here")
        asked = {"scope": f"repository:{self._repository}:pull"}
        asked |= {"service": fields["service"]} if "service" in fields else {}
        async with session.get(realm, params=asked, headers=basic, ssl=self._tls or True) as told:
            if told.status == 429 or told.status >= 500:
                raise Unavailable(f"the registry's token service answered {told.status}")
            if told.status != 200:
                raise InsufficientScope(f"the registry does not give out {self._repository}")
            body = _object(await _bounded(told))
        token = body.get("token") or body.get("access_token")
        if not isinstance(token, str):
            raise UpstreamFault("the registry's token service gave no token")
        return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session; what goes wrong in it is told as `RegistryPull.into` says."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    try:
        async with aiohttp.ClientSession(
            timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            yield session
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"the registry does not answer: {shorten(str(error))}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SiteRejected("the registry's answer is malformed") from error


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body of a small answer.

    Raises:
        SiteRejected: it is not small.
    """
    data = await answer.content.read(MANIFEST_BYTES + 1)
    while len(data) <= MANIFEST_BYTES and not answer.content.at_eof():
        data += await answer.content.read(MANIFEST_BYTES + 1 - len(data))
    if len(data) > MANIFEST_BYTES:
        raise SiteRejected("the registry's answer is oversized")
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SiteRejected("the registry's answer is not JSON") from error
    if not isinstance(body, dict):
        raise SiteRejected("the registry's answer is no object")
    return body


def _platform(said: dict[str, Any]) -> tuple[str, str, str]:
    os, made_for, variant = (str(said.get(key) or "") for key in ("os", "architecture", "variant"))
    return os, made_for, variant


def _basic(account: Credential) -> dict[str, str]:
    pair = f"{account.user}:{account.password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _api(host: str) -> str:
    return DOCKER_HUB_API if host == DOCKER_HUB else host
