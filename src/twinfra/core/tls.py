"""The federation's own certificate authority, and the contexts that trust it.

One authority and one server certificate (``localhost``, ``127.0.0.1``, ``::1``) a home, made when
first asked for. A facility that has real certificates names them in its settings instead.
"""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from filelock import FileLock

LIFETIME = timedelta(days=365)


@dataclass(frozen=True)
class ServerTls:
    """Files of a server: its certificate chain, key and the authority that signed it."""

    certfile: Path
    keyfile: Path
    cafile: Path

    def context(self) -> ssl.SSLContext:
        """Return a server context: TLS 1.2 and later."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certfile, self.keyfile)
        return context


def server_tls(folder: Path) -> ServerTls:
    """Return the server certificate below `folder`, made with its authority when absent."""
    files = ServerTls(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    with FileLock(folder / ".lock"):
        if not files.certfile.exists():
            _make(files)
    return files


def client_context(*cafiles: Path) -> ssl.SSLContext:
    """Return a client context that trusts the machine's authorities and those in `cafiles`."""
    context = ssl.create_default_context()
    for cafile in cafiles:
        context.load_verify_locations(cafile)
    return context


def _make(files: ServerTls) -> None:
    now = datetime.now(UTC)
    ca_key, server_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    ca_name, name = _name("twinfra local authority"), _name("localhost")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    hosts = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    server = (
        _builder(name, ca_name, server_key.public_key(), now)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files.cafile.write_bytes(ca.public_bytes(pem))
    _write_key(files.cafile.with_name("ca.key"), ca_key)
    _write_key(files.keyfile, server_key)
    files.certfile.write_bytes(server.public_bytes(pem) + ca.public_bytes(pem))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
