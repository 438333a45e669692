"""The images of a site: those of its layouts, and those that it may pull by their names.

Its neighbours `names.py` says what a name means, `registry.py` pulls, `store.py` unpacks.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from twinfra.compute.containers.images.layout import Layout
from twinfra.compute.containers.images.model import UnpackedImage, parse_reference
from twinfra.compute.containers.images.names import (
    Credential,
    Names,
    credentials_of,
    host_of,
    whole_name,
)
from twinfra.compute.containers.images.registry import RegistryPull
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.containers.machine import architecture
from twinfra.core.errors import InvalidRequest, NotFound

PENDING = ""
"""Instead of a digest: it will be pulled."""


class PullingStore:
    """An `ImageStore` with registries behind it; its calls block.

    Args:
        store: looks into `pulled` too.
        pulled: the layout that pulled images go to.
        names: of the site.
        plain: registries that speak HTTP without TLS.
        tls: to check registries' certificates.
        accounts: of the site itself, by registry.
    """

    def __init__(
        self,
        store: ImageStore,
        pulled: Path,
        names: Names,
        *,
        plain: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
        accounts: Mapping[str, Credential] | None = None,
    ) -> None:
        self._store, self._layout, self._names = store, Layout(pulled), names
        self._plain, self._tls, self._accounts = plain, tls, dict(accounts or {})

    def resolve(self, reference: str) -> str:
        """Return the manifest digest, or `PENDING` where the image would be pulled.

        Raises:
            NotFound: it is not here, and may not be pulled.
            InvalidRequest: not a reference.
        """
        parse_reference(reference)
        names = list(self._names.candidates(reference))
        for name in names:
            try:
                return self._store.resolve(name)
            except NotFound:
                if self._names.pullable(name):
                    return PENDING
        raise NotFound(f"no image {reference} here, and its registry is not one to pull from")

    def ensure(
        self,
        reference: str,
        credentials: Mapping[str, Credential] | None = None,
        *,
        policy: str = "",
    ) -> UnpackedImage:
        """Pull where needed, and unpack.

        Args:
            reference: as the pod names it.
            credentials: of the pod, by registry; they come before the site's own.
            policy: ``Always`` asks the registry even if the image is here, ``Never`` does not.

        Raises:
            NotFound: neither here nor there.
            InsufficientScope: the registry does not give it to this account.
            SiteRejected: it is corrupt.
            Unavailable: the registry does not answer (retryable).
        """
        name = next(self._names.candidates(reference))
        if not self._names.pullable(name) or policy == "Never":
            return self._store.ensure(name)
        wanted = parse_reference(name)
        always = policy == "Always" or (not policy and wanted.tag == "latest")
        try:
            if not always or wanted.digest:
                return self._store.ensure(name)
        except NotFound:
            pass
        self._pull(name, credentials or {})
        return self._store.ensure(name)

    def _pull(self, name: str, credentials: Mapping[str, Credential]) -> None:
        host = host_of(whole_name(name))
        credential = credentials.get(host) or self._accounts.get(host)
        pull = RegistryPull(name, credential, plain=host in self._plain, tls=self._tls)
        self._layout.create()
        tagged = parse_reference(name)
        with FileLock(self._layout.path / ".pull.lock"):
            asyncio.run(pull.into(self._layout, tagged.tagged, architecture()))


def site_accounts(path: Path | None) -> dict[str, Credential]:
    """Return the accounts of a file such as ``docker login`` writes.

    Raises:
        InvalidRequest: it is none.
    """
    if path is None:
        return {}
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} holds no registry accounts") from error
    encoded = base64.b64encode(path.read_bytes()).decode()
    return credentials_of({"data": {".dockerconfigjson": encoded}})
