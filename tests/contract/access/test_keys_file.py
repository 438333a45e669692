"""Keys of an issuer that cannot be asked: a JWKS document that somebody copied."""

import json

import pytest

from twinfra.access.authenticator import Authenticator
from twinfra.access.errors import TokenRefused
from twinfra.access.issuer_keys import MAX_DOCUMENT_BYTES
from twinfra.access.keys_file import KeysFile
from twinfra.core.errors import Unavailable
from twinfra.testkit.issuer import AUDIENCE, TestIssuer


@pytest.fixture
def issuer():
    with TestIssuer() as running:
        yield running


def publish(issuer, path):
    """Put the issuer's document in the file's place, as whoever copies it should."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"keys": [key.as_dict(private=False) for key in issuer.keys]}))
    fresh.replace(path)


def authenticator(issuer, path):
    return Authenticator([issuer.trust()], AUDIENCE, keys={issuer.trust().issuer: KeysFile(path)})


async def test_a_token_counts_when_its_key_is_in_the_file(issuer, tmp_path):
    publish(issuer, tmp_path / "keys.json")
    principal = await authenticator(issuer, tmp_path / "keys.json").authenticate(issuer.token())
    assert principal.sub == "alice"
    assert issuer.requests == []


async def test_a_new_key_counts_at_once_when_the_file_is_replaced(issuer, tmp_path):
    publish(issuer, tmp_path / "keys.json")
    door = authenticator(issuer, tmp_path / "keys.json")
    await door.authenticate(issuer.token())
    issuer.rotate()
    with pytest.raises(TokenRefused, match="key"):
        await door.authenticate(issuer.token("bob"))
    publish(issuer, tmp_path / "keys.json")
    assert (await door.authenticate(issuer.token("bob"))).sub == "bob"


@pytest.mark.parametrize(
    "text", [None, "", "{", "{}", "[" * 100_000, "x" * (MAX_DOCUMENT_BYTES + 1)]
)
async def test_nobody_is_judged_when_the_file_holds_no_keys(issuer, tmp_path, text):
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Unavailable, match=r"keys\.json"):
        await authenticator(issuer, path).authenticate(issuer.token())


async def test_the_keys_stay_when_the_file_is_spoiled(issuer, tmp_path):
    publish(issuer, tmp_path / "keys.json")
    door = authenticator(issuer, tmp_path / "keys.json")
    await door.authenticate(issuer.token())
    for text in ("{", '{"keys": []}'):
        (tmp_path / "keys.json").write_text(text)
        assert (await door.authenticate(issuer.token("bob"))).sub == "bob"
