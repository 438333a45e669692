"""A certificate authority for tests: certificates of servers on loopback and of any client."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinfra.core.tls import server_tls

LIFETIME = timedelta(days=2)
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class KeyPair:
    """A certificate with its private key, both PEM."""

    certfile: Path
    keyfile: Path


@dataclass(frozen=True)
class Authority:
    """An authority below a folder; what it issues is written beside it."""

    cafile: Path
    keyfile: Path

    @classmethod
    def below(cls, folder: Path) -> "Authority":
        """Return the authority of `folder`, made when absent."""
        made = server_tls(folder)
        return cls(made.cafile, made.cafile.with_name("ca.key"))

    def issue(
        self,
        name: str,
        *,
        organisations: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
        file: str | None = None,
    ) -> KeyPair:
        """Return a new certificate; it may serve as `hosts`, and log in as a client.

        Args:
            name: its common name; to Kubernetes the user.
            organisations: to Kubernetes the user's groups.
            hosts: host names and addresses that it may serve as.
            file: the stem of its files' names; `name` by default.
        """
        authority = x509.load_pem_x509_certificate(self.cafile.read_bytes())
        signer = serialization.load_pem_private_key(self.keyfile.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        usages += [ExtendedKeyUsageOID.SERVER_AUTH] if hosts else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(name, organisations))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        stem = (file or name).replace("/", "_").replace(":", "_")
        pair = KeyPair(self.cafile.with_name(f"{stem}.pem"), self.cafile.with_name(f"{stem}.key"))
        pair.certfile.write_bytes(certificate.public_bytes(_PEM))
        pair.keyfile.touch(mode=0o600)
        pair.keyfile.write_bytes(private_pem(key))
        return pair


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return `key` as unencrypted PKCS #8."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _subject(name: str, organisations: tuple[str, ...]) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organisations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
