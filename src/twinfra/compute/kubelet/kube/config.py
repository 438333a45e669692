"""Which API server, and as whom: a kubeconfig file, or what a pod finds in its own file system.

Source: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files" and "Accessing
the Kubernetes API from a Pod".
"""

import base64
import binascii
import ssl
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from twinfra.core.errors import InvalidRequest, NotFound

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
IN_CLUSTER_URL = "https://kubernetes.default.svc"
REREAD_S = 30.0


@dataclass
class Credential:
    """What proves who calls: a token, given or in a file that is rotated; or none (a certificate).

    A file is read again after `REREAD_S`, for its owner renews it.
    """

    token: str = field(default="", repr=False)
    token_file: Path | None = None
    _read_at_s: float = field(default=-REREAD_S, repr=False)

    def bearer(self) -> str:
        """Return the token; empty where a certificate speaks for the caller."""
        now_s = time.monotonic()
        if self.token_file is not None and now_s - self._read_at_s >= REREAD_S:
            self.token, self._read_at_s = self.token_file.read_text().strip(), now_s
        return self.token


@dataclass(frozen=True)
class Access:
    """An API server's address, the context that trusts it, and the caller's credential."""

    url: str
    tls: ssl.SSLContext | None
    credential: Credential = field(default_factory=Credential)


def in_cluster(folder: Path = IN_CLUSTER, url: str = IN_CLUSTER_URL) -> Access:
    """Return the access that every pod has.

    Raises:
        NotFound: this process is not in a pod.
    """
    if not (folder / "token").is_file():
        raise NotFound("no kubeconfig is named and this process is in no pod")
    tls = ssl.create_default_context(cafile=folder / "ca.crt")
    return Access(url, tls, Credential(token_file=folder / "token"))


def from_kubeconfig(path: Path, context: str = "") -> Access:
    """Read a kubeconfig file.

    Args:
        path: of the file.
        context: of it to use; default: its current one.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is none, or it asks for a program (``exec``) to authenticate.
    """
    try:
        whole = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise NotFound(f"no kubeconfig {path}") from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is no kubeconfig") from error
    if not isinstance(whole, dict):
        raise InvalidRequest(f"{path} is no kubeconfig")
    chosen = context or str(whole.get("current-context") or "")
    wanted = _named(whole, "contexts", "context", chosen, path)
    cluster = _named(whole, "clusters", "cluster", str(wanted.get("cluster")), path)
    user = _named(whole, "users", "user", str(wanted.get("user")), path)
    for unsupported in ("exec", "auth-provider", "username"):
        if user.get(unsupported):
            raise InvalidRequest(f"{path}: users[].user.{unsupported} is not supported here")
    folder = path.parent
    url = str(cluster.get("server") or "").rstrip("/")
    tls = _tls(cluster, user, folder) if url.startswith("https://") else None
    token_file = user.get("tokenFile")
    credential = Credential(
        token="" if token_file else str(user.get("token") or ""),
        token_file=folder / token_file if token_file else None,
    )
    return Access(url, tls, credential)


def access_of(kubeconfig: Path | None) -> Access:
    """Return the access of a kubeconfig; without one, that of this pod."""
    return in_cluster() if kubeconfig is None else from_kubeconfig(kubeconfig)


def _named(whole: dict[str, Any], group: str, kind: str, name: str, path: Path) -> dict[str, Any]:
    entries = whole.get(group)
    for entry in entries if isinstance(entries, Iterable) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            return dict(entry.get(kind) or {})
    raise InvalidRequest(f"{path}: {group} has no {name!r}")


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    ca = _pem(cluster, "certificate-authority", folder)
    tls = ssl.create_default_context(cadata=ca.decode() if ca else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    certificate = _pem(user, "client-certificate", folder)
    key = _pem(user, "client-key", folder)
    if certificate and key:
        with tempfile.TemporaryDirectory(prefix="twinfra-kube-") as name:
            pair = Path(name) / "pair.pem"
            pair.touch(0o600)
            pair.write_bytes(certificate + b"\n" + key)
            tls.load_cert_chain(pair)
    return tls


def _pem(table: dict[str, Any], field_name: str, folder: Path) -> bytes | None:
    """Return what stands in the file (`field_name`) or in the text (`field_name`-data)."""
    if data := table.get(f"{field_name}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise InvalidRequest(f"{field_name}-data is no base64") from error
    if named := table.get(field_name):
        return (folder / str(named)).read_bytes()
    return None
