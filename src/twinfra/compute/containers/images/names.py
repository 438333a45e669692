"""What an image's name means at a site: other people's names mapped to ours, registries allowed.

Pure. Source: distribution/reference, "familiar" names (``python`` is
``docker.io/library/python``); Kubernetes, "Images".
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from twinfra.core.errors import InvalidRequest

DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"
CONFIG_KEYS = (".dockerconfigjson", ".dockercfg")


@dataclass(frozen=True)
class Names:
    """A site's way with names.

    Attributes:
        mapped: beginning of a name to what takes its place; the longest wins.
        registries: hosts that images may be pulled from.
    """

    mapped: Mapping[str, str] = field(default_factory=dict)
    registries: frozenset[str] = frozenset()

    def candidates(self, reference: str) -> Iterator[str]:
        """Yield what a reference may mean here, the first that is there wins."""
        for name in (reference, whole_name(reference)):
            found = [begin for begin in self.mapped if _begins(name, begin)]
            if found:
                begin = max(found, key=len)
                yield self.mapped[begin] + name[len(begin) :]
                return
        yield reference

    def pullable(self, reference: str) -> bool:
        """Say whether a reference may be pulled here."""
        return host_of(whole_name(reference)) in self.registries


@dataclass(frozen=True)
class Credential:
    """An account at a registry."""

    user: str
    password: str = field(repr=False)


def whole_name(reference: str) -> str:
    """Return a reference with its registry, as container engines complete it."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return reference
    return f"{DOCKER_HUB}/{reference if slash else f'library/{reference}'}"


def host_of(reference: str) -> str:
    """Return the registry of a whole name."""
    return reference.partition("/")[0]


def credentials_of(secret: Mapping[str, Any]) -> dict[str, Credential]:
    """Return the accounts of a ``kubernetes.io/dockerconfigjson`` secret, by registry.

    Raises:
        InvalidRequest: it is none.
    """
    data, plain = secret.get("data") or {}, secret.get("stringData") or {}
    try:
        spelled = next((str(data[key]) for key in CONFIG_KEYS if key in data), "")
        text = next((str(plain[key]) for key in CONFIG_KEYS if key in plain), None)
        config = json.loads(text or base64.b64decode(spelled, validate=True))
        entries = config.get("auths", config)
        return {_host(name): _account(entry) for name, entry in entries.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InvalidRequest("an image pull secret holds no registry accounts") from error


def _host(name: str) -> str:
    """Return the host of a key such as ``https://index.docker.io/v1/``."""
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in {"index.docker.io", DOCKER_HUB_API} else host


def _account(entry: Mapping[str, Any]) -> Credential:
    if "auth" in entry and not entry.get("username"):
        try:
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("no account") from error
        return Credential(user, password)
    return Credential(str(entry.get("username", "")), str(entry.get("password", "")))


def _begins(name: str, begin: str) -> bool:
    rest = name[len(begin) :]
    return name.startswith(begin) and (not rest or begin.endswith("/") or rest[0] in "/:@")
