"""Tables for people, and the same rows as JSON for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from twinfra.cli.options import print_json


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, json: bool) -> None:
    """Print `rows`: the named columns as a table, or everything as JSON."""
    if json:
        print_json(list(rows))
        return
    from rich.console import Console  # noqa: PLC0415 - kept off the path of --help
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)
    if not rows:
        typer.echo("(none)")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value))
    return str(value)
