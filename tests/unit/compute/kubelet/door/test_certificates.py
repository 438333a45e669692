"""A door's certificate: what is kept of the cluster's signature, and when the next is asked for."""

import asyncio
import base64
import contextlib
import ssl
from datetime import UTC, datetime

import msgspec
import pytest

from twinfra.compute.kubelet.door import certificates
from twinfra.compute.kubelet.door.certificates import (
    Shown,
    kept_certificate,
    server_context,
    signed_certificate,
)
from twinfra.compute.kubelet.door.renewal import Renewal
from twinfra.core.errors import InvalidRequest, NotFound, Unavailable
from twinfra.testkit.certificates import LIFETIME, Authority
from twinfra.testkit.clock import VirtualClock

NAMES = ("10.1.2.3", "node.example")


@pytest.fixture
def issued(tmp_path):
    authority = Authority.below(tmp_path)
    issue = iter(range(100))

    def make():
        pair = authority.issue("system:node:hpc-a", hosts=NAMES, file=f"made{next(issue)}")
        return Shown(pair.certfile, pair.keyfile)

    return make


@pytest.fixture
def kept(issued, tmp_path):
    """Lay a certificate as a run before has left it."""
    made = issued()
    made.certfile.rename(tmp_path / "stem.pem")
    made.keyfile.rename(tmp_path / "stem.key")
    return Shown(tmp_path / "stem.pem", tmp_path / "stem.key")


def find(folder, *, names=NAMES, after=0.0):
    return kept_certificate(folder, "stem", names, datetime.now(UTC) + after * LIFETIME)


def test_a_signed_certificate_is_kept_until_it_is_due(kept, tmp_path):
    assert find(tmp_path) == kept
    assert find(tmp_path, names=NAMES[::-1]) == kept
    assert find(tmp_path, after=0.85) is None


def test_a_certificate_is_not_kept_for_other_names_or_with_another_key(kept, issued, tmp_path):
    assert find(tmp_path, names=("10.1.2.4",)) is None
    issued().keyfile.replace(kept.keyfile)
    assert find(tmp_path) is None
    kept.keyfile.unlink()
    assert find(tmp_path) is None


class Cluster:
    """Answers a signing request with each of `answers` in turn."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def create(self, resource, body, *, kind):
        return msgspec.convert({"metadata": {"name": "r"}}, kind)

    async def get(self, resource, name, *, kind):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return msgspec.convert({"metadata": {"name": name}, "status": answer}, kind)


@pytest.fixture
def sign(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "ASK_AGAIN_S", 0)

    async def ask(*answers):
        cluster = Cluster(*answers)
        return await signed_certificate(cluster, tmp_path / "tls", "stem", "hpc-a", NAMES)

    return ask


async def test_a_request_outlives_an_api_server_that_is_away(sign):
    signed = base64.b64encode(b"PEM").decode()
    shown = await sign({}, Unavailable("away"), {}, {"certificate": signed})
    assert shown.certfile.read_bytes() == b"PEM"
    assert shown.keyfile.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("answer", "error"),
    [({"conditions": [{"type": "Denied"}]}, InvalidRequest), (NotFound("gone"), NotFound)],
)
async def test_a_request_that_was_denied_or_dropped_is_an_error(sign, answer, error):
    with pytest.raises(error):
        await sign(answer, {})


class Door:
    """A renewal whose certificates are ready at once; notes when each was asked for."""

    def __init__(self, issued, *errors):
        self.clock = VirtualClock(datetime.now(UTC))
        self.issued, self.errors, self.asked_s = issued, list(errors), []
        self.shown = issued()
        self.tls = server_context(self.shown, "")

    async def make(self):
        self.asked_s.append(self.clock.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        self.shown = self.issued()
        return self.shown

    async def run(self, due_at, for_s):
        task = asyncio.create_task(Renewal("hpc-a", self.tls, self.make, due_at, self.clock).run())
        await self.clock.advance(0)
        for _ in range(int(for_s // 600)):
            await self.clock.advance(600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return self.asked_s


async def test_a_certificate_is_renewed_at_four_fifths_of_its_life(issued):
    door = Door(issued)
    due_s = (door.shown.renew_at - door.clock.now()).total_seconds()
    asked_s = await door.run(door.shown.renew_at, due_s + 1200)
    assert asked_s[0] == pytest.approx(due_s, abs=2)


async def test_one_that_is_due_is_asked_for_at_once_and_a_refusal_is_asked_again_later(issued):
    door = Door(issued, InvalidRequest("denied"), NotFound("gone"))
    asked_s = await door.run(door.clock.now(), 3600)
    assert asked_s == [0, 60, 180]


async def test_new_callers_are_shown_the_renewed_certificate(issued, tmp_path):
    door = Door(issued)
    before = door.shown
    await door.run(door.clock.now(), 0)
    assert shown_by(door.tls, tmp_path) == read(door.shown.certfile) != read(before.certfile)


def read(path):
    return ssl.PEM_cert_to_DER_cert(
        path.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )


def shown_by(tls, folder):
    """Return the certificate that a server with this context shows, without a socket."""
    toward, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    caller = client.wrap_bio(back, toward, server_hostname="node.example")
    server = tls.wrap_bio(toward, back, server_side=True)
    for _ in range(5):
        for side in (caller, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return caller.getpeercert(binary_form=True)
