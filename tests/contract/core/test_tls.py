"""The home's own certificate authority."""

import stat
from datetime import UTC, datetime, timedelta

from cryptography import x509

from twinfra.core.tls import client_context, server_tls


def test_files_stay_when_they_are_asked_for_again(tmp_path):
    files = server_tls(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert server_tls(tmp_path) == files
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    assert {"ca.pem", "ca.key", "server.pem", "server.key"} <= set(before)


def test_keys_are_ours_alone_when_made(tmp_path):
    server_tls(tmp_path)
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_the_certificate_is_good_for_loopback_and_signed_when_made(tmp_path):
    files = server_tls(tmp_path)
    server, authority = x509.load_pem_x509_certificates(files.certfile.read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1"]
    server.verify_directly_issued_by(authority)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert server.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)


def test_the_authority_is_trusted_beside_the_machines_when_a_client_asks(tmp_path):
    files = server_tls(tmp_path)
    trusted = client_context(files.cafile).get_ca_certs()
    names = [dict(entry[0] for entry in each["subject"]).get("commonName") for each in trusted]
    assert "twinfra local authority" in names


def test_a_certificate_is_shown_by_the_context_that_is_made_for_it_alone(context, tmp_path):
    files = context.tls_server()
    shared = context.tls_client()
    own = context.tls_client(certificate_file=files.certfile, key_file=files.keyfile)
    assert own is not shared
    assert context.tls_client() is shared
    further = context.tls_client(ca_file=files.cafile)
    assert further is not shared
    assert {each["subject"] for each in own.get_ca_certs()} >= {
        each["subject"] for each in shared.get_ca_certs()
    }
