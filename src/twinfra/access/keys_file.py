"""Keys of an issuer that cannot be asked from here: a JWKS document that somebody copied.

A Kubernetes cluster is such an issuer where its API server is closed to sites:
``kubectl get --raw /openid/v1/jwks``. A document put in its place counts at once, and one that
cannot be read leaves the keys as they were.

Source: RFC 7517 §5; Kubernetes documentation, "ServiceAccount issuer discovery".
"""

import asyncio
import json
from pathlib import Path

from joserfc.jwk import Key

from twinfra.access.errors import TokenRefused
from twinfra.access.issuer_keys import MAX_DOCUMENT_BYTES
from twinfra.access.jose import usable_keys
from twinfra.core.errors import Unavailable
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)


class KeysFile:
    """The keys of one issuer, from a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, Key] = {}
        self._read: tuple[int, int] | None = None

    async def find(self, kid: str) -> Key:
        """Return the issuer's key `kid`.

        Raises:
            TokenRefused: the file has no such key; reason ``key-unknown``.
            Unavailable: the file was never readable.
        """
        await asyncio.to_thread(self._look)
        if self._read is None:
            raise Unavailable(f"{self._path} holds no keys that can be read")
        key = self._keys.get(kid)
        if key is None:
            raise TokenRefused("key-unknown")
        return key

    def _look(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if seen == self._read:
                return
            with self._path.open("rb") as file:
                document = file.read(MAX_DOCUMENT_BYTES)  # one that is longer is cut, and no JSON
            keys = usable_keys(json.loads(document))
            if keys:
                self._keys, self._read = keys, seen
            else:
                log.warning("issuer_keys_not_read", path=str(self._path), error="no usable key")
        except (OSError, ValueError, RecursionError) as error:
            log.warning("issuer_keys_not_read", path=str(self._path), error=repr(error))
