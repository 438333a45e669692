"""The door's certificates: what it shows, and whose client certificates it takes.

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests", the signer
``kubernetes.io/kubelet-serving``: subject ``CN=system:node:<name>, O=system:nodes``, names or
addresses, usages ``digital signature`` and ``server auth``.
"""

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Meta
from twinfra.compute.kubelet.kube.resources import CONFIG_MAPS, SIGNING_REQUESTS
from twinfra.core.errors import InvalidRequest, NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.tls import ServerTls

log = get_logger(__name__)

SIGNER = "kubernetes.io/kubelet-serving"
LIFETIME = timedelta(days=365)
CLOCKS_DIFFER = timedelta(days=1)
ASK_AGAIN_S = 1.0
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Shown:
    """A serving certificate with its chain, and its key; files of this machine."""

    certfile: Path
    keyfile: Path

    @property
    def ends_at(self) -> datetime:
        """When the certificate ends."""
        read = x509.load_pem_x509_certificate(self.certfile.read_bytes())
        return read.not_valid_after_utc

    @property
    def renew_at(self) -> datetime:
        """When four fifths of its life are over."""
        read = x509.load_pem_x509_certificate(self.certfile.read_bytes())
        begin, close = read.not_valid_before_utc, read.not_valid_after_utc
        return begin + (close - begin) * 0.8


def server_context(shown: Shown, client_ca: str) -> ssl.SSLContext:
    """Return a context that shows a certificate and asks callers for theirs.

    A caller without one is let through to show a token; one with a foreign one is not.
    `SSLContext.load_cert_chain` on it takes a renewed certificate into use for new connections.

    Args:
        shown: the serving certificate.
        client_ca: PEM text of the authorities of client certificates; empty: tokens only.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(shown.certfile, shown.keyfile)
    if client_ca:
        context.load_verify_locations(cadata=client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


async def cluster_client_ca(client: KubeClient) -> str:
    """Return the authorities of client certificates that the cluster publishes.

    Raises:
        NotFound: it publishes none.
    """
    found = await client.get(
        CONFIG_MAPS, "extension-apiserver-authentication", "kube-system", kind=_ConfigMap
    )
    if not found.data.get("client-ca-file"):
        raise NotFound("the cluster publishes no authority of client certificates")
    return found.data["client-ca-file"]


def own_certificate(folder: Path, authority: ServerTls, node: str, names: Sequence[str]) -> Shown:
    """Return a certificate signed by this home's authority, made anew each time.

    Args:
        folder: to keep it in.
        authority: of the home; its key is beside its certificate.
        node: name of the node.
        names: names and addresses that callers use.
    """
    ca = x509.load_pem_x509_certificate(authority.cafile.read_bytes())
    ca_key = serialization.load_pem_private_key(
        authority.cafile.with_name("ca.key").read_bytes(), None
    )
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise InvalidRequest("the home's authority has a key of another kind")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_subject(node))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(min(now + LIFETIME, ca.not_valid_after_utc))
        .add_extension(_names(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    return _write(folder, f"kubelet-{node}", made.public_bytes(PEM) + ca.public_bytes(PEM), key)


class _RequestStatus(msgspec.Struct):
    certificate: str = ""
    conditions: list[dict[str, Any]] | None = None


class _Request(msgspec.Struct):
    metadata: Meta
    status: _RequestStatus = msgspec.field(default_factory=_RequestStatus)


async def signed_certificate(
    client: KubeClient, folder: Path, stem: str, node: str, names: Sequence[str]
) -> Shown:
    """Return a certificate that the cluster signs; waits until somebody approves it.

    Args:
        client: of the cluster.
        folder: to keep it in.
        stem: of its files; another cluster's or node's has another.
        node: name of the node.
        names: names and addresses that callers use.

    Raises:
        InvalidRequest: it was denied, or the signer failed.
        NotFound: the cluster dropped the request.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(node))
        .add_extension(_names(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    body = {
        "apiVersion": SIGNING_REQUESTS.api_version,
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "twinfra-kubelet-"},
        "spec": {
            "request": base64.b64encode(wanted.public_bytes(PEM)).decode(),
            "signerName": SIGNER,
            "usages": ["digital signature", "server auth"],
        },
    }
    made = await client.create(SIGNING_REQUESTS, body, kind=_Request)
    name = made.metadata.name
    log.info("serving_certificate_requested", node=node, request=name)
    said = ""
    while not made.status.certificate:
        for told in made.status.conditions or []:
            if told.get("type") in {"Denied", "Failed"}:
                raise InvalidRequest(f"the request {name} was {told['type'].lower()}")
        await asyncio.sleep(ASK_AGAIN_S)
        try:
            made = await client.get(SIGNING_REQUESTS, name, kind=_Request)
        except TwinfraError as error:
            if not error.retryable:
                raise
            if said != error.code:
                said = error.code
                log.info("serving_certificate_waits", node=node, request=name, why=error.detail)
    return _write(folder, stem, base64.b64decode(made.status.certificate), key)


def kept_certificate(folder: Path, stem: str, names: Sequence[str], now: datetime) -> Shown | None:
    """Return the certificate that `signed_certificate` wrote, if it may still be shown.

    Args:
        folder: where it was kept.
        stem: of its files.
        names: names and addresses that callers use; it has to be for exactly these.
        now: it must not be due for renewal.
    """
    kept = _shown(folder, stem)
    try:
        read = x509.load_pem_x509_certificate(kept.certfile.read_bytes())
        key = serialization.load_pem_private_key(kept.keyfile.read_bytes(), None)
        said = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    good = set(said) == set(_names(names)) and read.public_key() == key.public_key()
    return kept if good and now < kept.renew_at else None


def _subject(node: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )


def _names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _shown(folder: Path, stem: str) -> Shown:
    return Shown(folder / f"{stem}.pem", folder / f"{stem}.key")


def _write(folder: Path, stem: str, chain: bytes, key: ec.EllipticCurvePrivateKey) -> Shown:
    folder.mkdir(parents=True, exist_ok=True)
    made = _shown(folder, stem)
    made.keyfile.touch(mode=0o600)
    made.keyfile.write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    made.certfile.write_bytes(chain)
    return made
