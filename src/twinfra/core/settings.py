"""Typed settings: one frozen group per container, read once, in its ``wiring.py``.

Order: flag > environment > file > default. The file is ``settings.toml`` of the home; the variable
of a field is ``TWINFRA_<SECTION>__<GROUP>__<FIELD>``. Secrets are never values: a field ends in
``_file`` and holds a path. This is the only module that reads the environment.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from twinfra.core.errors import InvalidRequest
from twinfra.core.home import Home

ENVIRONMENT = os.environ  # noqa: TID251 - this module is where the environment is read
NESTED = "__"


class SettingsError(InvalidRequest):
    """A setting is unknown or has a value that it cannot have."""

    code, title = "invalid-settings", "The settings are not valid"


@dataclass(frozen=True)
class SettingOrigin:
    """One value in force, and where it came from."""

    name: str
    value: Any
    origin: str
    doc: str


class SettingsGroup(BaseSettings):
    """Base of every container's settings.

    A subclass names its ``section`` (``"datasets"``, or ``"sites.{name}.compute"`` where each
    site has its own) and documents each field by a docstring below it.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_nested_delimiter=NESTED,
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
    )
    section: ClassVar[str] = ""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over what the file says (which arrives as arguments)."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @classmethod
    def load(cls, home: Home, name: str = "") -> Self:
        """Read this group for the federation at `home`; `name` fills in the section.

        Raises:
            SettingsError: the file or a variable holds what the group does not allow.
        """
        section = cls.section.format(name=name)
        _refuse_unknown_variables(cls, section)
        try:
            return cls(_env_prefix=_prefix(section), **_from_file(home.settings_file, section))
        except ValidationError as error:
            raise SettingsError(
                f"settings of [{section}] in {home.settings_file} or in the environment "
                f"({_prefix(section)}…) are not valid",
                errors=[
                    {"field": ".".join(map(str, entry["loc"])), "detail": entry["msg"]}
                    for entry in error.errors(include_url=False)
                ],
            ) from error

    @classmethod
    def origins(cls, home: Home, name: str = "") -> list[SettingOrigin]:
        """Return every value in force with its origin: the variable, the file or the default."""
        section = cls.section.format(name=name)
        loaded = cls.load(home, name)
        file_leaves = dict(_leaves(_from_file(home.settings_file, section)))
        source = EnvSettingsSource(
            cls, env_prefix=_prefix(section), env_nested_delimiter=NESTED, case_sensitive=False
        )
        env_leaves = dict(_leaves(source()))
        found = []
        for path, value, doc in _fields(loaded):
            if _touches(path, env_leaves):
                origin = "environment " + _prefix(section) + NESTED.join(path).upper()
            elif _touches(path, file_leaves):
                origin = f"file {home.settings_file}"
            else:
                origin = "default"
            found.append(SettingOrigin(".".join((section, *path)), value, origin, doc))
        return found


class UrlSettings(SettingsGroup):
    """Where a service stands when it is not the one that this home runs."""

    section: ClassVar[str] = "federation"

    urls: dict[str, str] = {}
    """Base URL by service name: ``datasets = "https://rucio.example.org"``; default: ours."""

    ca_file: Path | None = None
    """PEM file with further certificate authorities to trust; default: none but the home's own."""


def site_names(home: Home) -> list[str]:
    """Return the names of the sites that this home runs: the tables below ``[sites]``."""
    return sorted(_from_file(home.settings_file, "sites"))


def home_from_environment(flag: Path | None = None) -> Home:
    """Return the home folder: flag > ``TWINFRA_HOME`` > ``$XDG_STATE_HOME/twinfra``."""
    if flag is not None:
        return Home(flag.absolute())
    if named := ENVIRONMENT.get("TWINFRA_HOME"):
        return Home(Path(named).absolute())
    state = ENVIRONMENT.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Home(Path(state) / "twinfra")


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/twinfra``, where what can be made again is kept."""
    cache = ENVIRONMENT.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "twinfra"


def _refuse_unknown_variables(group: type[SettingsGroup], section: str) -> None:
    """Refuse a variable that names no field of `group`: it would be a setting that does nothing."""
    prefix = _prefix(section)
    unknown = [
        name
        for name in ENVIRONMENT
        if name.upper().startswith(prefix)
        and name.upper().removeprefix(prefix).partition(NESTED)[0].lower() not in group.model_fields
    ]
    if unknown:
        raise SettingsError(
            f"the environment holds variables that are no settings of [{section}]",
            errors=[{"field": name, "detail": "there is no such setting"} for name in unknown],
        )


def _touches(field: tuple[str, ...], leaves: Iterable[tuple[str, ...]]) -> bool:
    """Return whether one of `leaves` gives `field`, whole or in part (a field may be a table)."""
    return any(leaf[: len(field)] == field or field[: len(leaf)] == leaf for leaf in leaves)


def _prefix(section: str) -> str:
    return "TWINFRA_" + section.replace(".", NESTED).replace("-", "_").upper() + NESTED


def _from_file(path: Path, section: str) -> dict[str, Any]:
    try:
        whole = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    found = reduce(lambda table, key: table.get(key, {}), section.split("."), whole)
    return dict(found)


def _leaves(
    table: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _fields(
    model: BaseModel, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, (*path, name))
        else:
            yield (*path, name), value, field.description or ""
