"""The issuer's keys: kept in one file of mode 0600; the newest signs; rotating adds one.

Old keys stay published until all that they signed has ended. A rotation by another process is
noticed at the next use.
"""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock
from joserfc import jws
from joserfc.jwk import ECKey, Key, KeyParameters, RSAKey

from twinfra.access.errors import TokenRefused
from twinfra.access.jose import usable_keys
from twinfra.core.time import parse_rfc3339, rfc3339

RETIRE_AFTER = timedelta(hours=6)


class SigningKeys:
    """The keys in `path`, made there when absent.

    Args:
        path: the file.
        algorithm: of new keys, ``RS256`` or ``ES256``.
        now: when a first key would be made.
    """

    def __init__(self, path: Path, algorithm: str, now: datetime) -> None:
        self._path, self._algorithm = path, algorithm
        self._seen: int | None = None
        self._entries: list[dict[str, Any]] = []
        self._jwks: dict[str, Any] = {}
        self._public: dict[str, Key] = {}
        self._signer: Key | None = None
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                self._write([_new_entry(algorithm, now)])
        self._load()

    def rotate(self, now: datetime) -> str:
        """Sign with a new key from now on and forget those long out of use; return its ``kid``."""
        with FileLock(self._path.with_suffix(".lock")):
            self._load()
            entries = [*self._entries, _new_entry(self._algorithm, now)]
            self._write(_still_needed(entries, now))
        self._load()
        return str(self._entries[-1]["kid"])

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWKS document (RFC 7517 §5)."""
        self._load()
        return self._jwks

    def sign(self, claims: dict[str, Any], *, typ: str) -> str:
        """Return `claims` as a JWT signed by the newest key."""
        self._load()
        newest = self._entries[-1]
        if self._signer is None:
            self._signer = _import(newest)
        header = {"alg": newest["alg"], "typ": typ, "kid": newest["kid"]}
        body = json.dumps(claims, separators=(",", ":"))
        return jws.serialize_compact(header, body, self._signer, algorithms=[newest["alg"]])

    async def find(self, kid: str) -> Key:
        """Return the public key `kid`; lets the issuer check its own tokens without a request.

        Raises:
            TokenRefused: there is no such key; reason ``key-unknown``.
        """
        self._load()
        key = self._public.get(kid)
        if key is None:
            raise TokenRefused("key-unknown")
        return key

    def _load(self) -> None:
        changed = self._path.stat().st_mtime_ns
        if changed != self._seen:
            self._entries = json.loads(self._path.read_text())["keys"]
            self._seen, self._signer = changed, None
            self._jwks = {"keys": [_published(entry) for entry in self._entries]}
            self._public = usable_keys(self._jwks)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"keys": entries}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _new_entry(algorithm: str, now: datetime) -> dict[str, Any]:
    about: KeyParameters = {"alg": algorithm, "use": "sig"}
    key: RSAKey | ECKey
    if algorithm == "ES256":
        key = ECKey.generate_key("P-256", about)
    else:
        key = RSAKey.generate_key(2048, about)
    return {**key.as_dict(private=True), "kid": key.thumbprint()[:16], "made_at": rfc3339(now)}


def _published(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the public members of a kept key, named one by one."""
    names = (
        "kty",
        "kid",
        "alg",
        "use",
        *(("n", "e") if entry["kty"] == "RSA" else ("crv", "x", "y")),
    )
    return {name: entry[name] for name in names}


def _import(entry: dict[str, Any]) -> Key:
    about: KeyParameters = {"kid": entry["kid"], "alg": entry["alg"]}
    members = {name: entry[name] for name in entry if name not in {"kid", "alg", "use", "made_at"}}
    kind = RSAKey if entry["kty"] == "RSA" else ECKey
    return kind.import_key(members, about)


def _still_needed(entries: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Leave out keys whose successor has signed for longer than any token lives."""
    successors = [*(parse_rfc3339(entry["made_at"]) for entry in entries[1:]), now]
    return [
        entry
        for entry, replaced_at in zip(entries, successors, strict=True)
        if now - replaced_at < RETIRE_AFTER
    ]
