"""Settings: what wins, where it came from, what is refused."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel

from twinfra.core.database import DatabaseSettings
from twinfra.core.home import Home
from twinfra.core.settings import (
    SettingsError,
    SettingsGroup,
    UrlSettings,
    cache_folder,
    home_from_environment,
    site_names,
)


class Pool(BaseModel):
    size: int = 3
    """How many."""
    name: str = "p"
    """Which."""


class ToySettings(SettingsGroup):
    """A toy."""

    section: ClassVar[str] = "toy"

    poll_s: float = 2.0
    """Seconds between looks; default: often."""

    limits: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it
    """By link."""

    pool: Pool = Pool()
    """The pool."""

    key_file: Path | None = None
    """Where the key is."""


class SiteSettings(SettingsGroup):
    """A toy that each site has."""

    section: ClassVar[str] = "sites.{name}.toy"

    slots: int = 1
    """Places."""


@pytest.fixture
def write(home):
    home.root.mkdir()
    return home.settings_file.write_text


def origins(home, group=ToySettings, name=""):
    return {row.name: (row.value, row.origin) for row in group.origins(home, name)}


def test_the_default_is_in_force_when_nothing_is_said(home):
    assert ToySettings.load(home) == ToySettings()
    assert origins(home)["toy.poll_s"] == (2.0, "default")
    rows = {row.name: row.doc for row in ToySettings.origins(home)}
    assert rows["toy.poll_s"] == "Seconds between looks; default: often."


def test_the_file_wins_when_it_says_something(home, write):
    write("[toy]\npoll_s = 5\n[toy.pool]\nsize = 4\n")
    assert ToySettings.load(home).pool == Pool(size=4)
    found = origins(home)
    assert found["toy.poll_s"] == (5.0, f"file {home.settings_file}")
    assert found["toy.pool.size"] == (4, f"file {home.settings_file}")
    assert found["toy.pool.name"] == ("p", "default")


@pytest.mark.story("Settings in one TOML file plus environment")
def test_the_environment_wins_when_the_file_says_something_too(home, write, monkeypatch):
    write("[toy]\npoll_s = 5\n[toy.pool]\nsize = 4\nname = 'q'\n")
    monkeypatch.setenv("TWINFRA_TOY__POLL_S", "7")
    monkeypatch.setenv("TWINFRA_TOY__POOL__SIZE", "9")
    assert ToySettings.load(home).pool == Pool(size=9, name="q")
    found = origins(home)
    assert found["toy.poll_s"] == (7.0, "environment TWINFRA_TOY__POLL_S")
    assert found["toy.pool.size"] == (9, "environment TWINFRA_TOY__POOL__SIZE")
    assert found["toy.pool.name"] == ("q", f"file {home.settings_file}")


@pytest.mark.story("`twinfra settings show` prints each value and where it came from")
def test_a_table_has_its_origin_when_its_keys_are_free(home, write, monkeypatch):
    write("[toy.limits]\na = 1\n")
    assert origins(home)["toy.limits"] == ({"a": 1}, f"file {home.settings_file}")
    monkeypatch.setenv("TWINFRA_TOY__LIMITS__B", "2")
    assert origins(home)["toy.limits"] == ({"a": 1, "b": 2}, "environment TWINFRA_TOY__LIMITS")


def test_each_site_has_its_own_when_the_section_names_it(home, write, monkeypatch):
    write("[sites.cloud-a.toy]\nslots = 2\n[sites.hpc-b]\n")
    monkeypatch.setenv("TWINFRA_SITES__HPC_B__TOY__SLOTS", "8")
    assert site_names(home) == ["cloud-a", "hpc-b"]
    assert [SiteSettings.load(home, name).slots for name in site_names(home)] == [2, 8]
    assert origins(home, SiteSettings, "hpc-b") == {
        "sites.hpc-b.toy.slots": (8, "environment TWINFRA_SITES__HPC_B__TOY__SLOTS")
    }


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[toy]\npol_s = 5\n", "pol_s"),
        ("[toy]\npoll_s = 'often'\n", "poll_s"),
        ("[toy.limits]\na = 'x'\n", "limits.a"),
    ],
)
def test_a_setting_is_refused_by_name_when_the_file_has_it_wrong(home, write, text, field):
    write(text)
    with pytest.raises(SettingsError, match=r"\[toy\]") as refusal:
        ToySettings.load(home)
    assert [entry["field"] for entry in refusal.value.errors] == [field]
    assert str(home.settings_file) in refusal.value.detail


def test_a_variable_is_refused_by_name_when_no_setting_has_it(home, monkeypatch):
    monkeypatch.setenv("TWINFRA_TOY__POL_S", "5")
    with pytest.raises(SettingsError) as refusal:
        ToySettings.load(home)
    assert [entry["field"] for entry in refusal.value.errors] == ["TWINFRA_TOY__POL_S"]


def test_a_file_is_refused_when_it_is_not_toml(home, write):
    write("[toy\n")
    with pytest.raises(SettingsError, match="not TOML"):
        ToySettings.load(home)


@pytest.mark.story("Secrets only by file")
def test_a_value_never_stands_in_a_refusal_when_it_may_be_secret(home, write):
    write('[database]\nurl = "postgresql://twin:canary@db.example/twin"\n')
    with pytest.raises(SettingsError) as refusal:
        DatabaseSettings.load(home)
    assert "password_file" in str(refusal.value.errors)
    said = [refusal.value.detail, refusal.value.errors, refusal.value.__cause__]
    assert "canary" not in repr(said) + str(refusal.value.__cause__)


def test_settings_cannot_change_when_they_are_read(home):
    with pytest.raises(ValueError, match="frozen"):
        ToySettings.load(home).poll_s = 3


def test_addresses_are_taken_from_the_file_when_a_service_is_elsewhere(home, write, context):
    write('[federation.urls]\ndatasets = "https://rucio.example.org/"\n')
    assert context.url("datasets") == "https://rucio.example.org"
    assert context.url("transfers") == f"https://localhost:{home.port('transfers')}"
    assert context.bus_url == f"nats://localhost:{home.port('nats')}"
    assert UrlSettings.load(home).ca_file is None


def test_the_home_is_the_flag_then_the_variable_then_the_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TWINFRA_HOME", str(tmp_path / "named"))
    assert home_from_environment(tmp_path / "flag") == Home(tmp_path / "flag")
    assert home_from_environment() == Home(tmp_path / "named")
    monkeypatch.delenv("TWINFRA_HOME")
    assert home_from_environment() == Home(tmp_path / "state" / "twinfra")


def test_the_cache_is_where_the_variable_says_when_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "twinfra"
