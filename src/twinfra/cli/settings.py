"""``twinfra settings show``: every value in force, and where it came from."""

import importlib
import pkgutil

import typer

import twinfra
from twinfra.cli.options import HomeOption, JsonOption, open_home, print_json
from twinfra.core.settings import SettingOrigin, SettingsGroup, site_names

app = typer.Typer(no_args_is_help=True, help="Show settings.")


def all_groups() -> list[type[SettingsGroup]]:
    """Return every settings group of the package: found in the modules named ``settings``."""
    for module in pkgutil.walk_packages(twinfra.__path__, "twinfra."):
        if module.name.rpartition(".")[2] in {"settings", "database"}:
            importlib.import_module(module.name)
    found = {group for group in _below(SettingsGroup) if group.section}
    return sorted(found, key=lambda group: group.section)


def _below(group: type[SettingsGroup]) -> set[type[SettingsGroup]]:
    children = set(group.__subclasses__())
    return children.union(*(_below(child) for child in children))


@app.callback()
def _group() -> None:
    """Show settings."""


@app.command()
def show(home: HomeOption = None, json: JsonOption = False) -> None:
    """Print each setting with its value and its origin: environment, file or default."""
    place = open_home(home)
    rows: list[SettingOrigin] = []
    for group in all_groups():
        names = site_names(place) if "{name}" in group.section else [""]
        rows.extend(row for name in names for row in group.origins(place, name))
    if json:
        print_json([vars(row) for row in rows])
        return
    for row in rows:
        typer.echo(f"{row.name} = {row.value!r}  ({row.origin})")
