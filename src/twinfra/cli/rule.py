"""``twinfra rule``: rules keep replicas where you want them."""

from typing import Annotated, Any

import typer

from twinfra.cli.options import HomeOption, JsonOption
from twinfra.cli.session import Session, run
from twinfra.cli.tables import show
from twinfra.data.datasets.client import Did, NewRule, RuleInfo

app = typer.Typer(no_args_is_help=True, help="Rules that keep replicas where you want them.")
COLUMNS = ("id", "did", "rse_expression", "copies", "state", "locks", "error")


@app.command()
def add(
    did: Annotated[str, typer.Argument(help="Dataset as scope:name")],
    rse_expression: Annotated[str, typer.Argument(help="Such as HPC-B or type=DISK")],
    copies: Annotated[int, typer.Option(min=1)] = 1,
    lifetime_s: Annotated[float | None, typer.Option(help="Ends after so many seconds")] = None,
    home: HomeOption = None,
) -> None:
    """Ask for copies of a dataset at the places that an expression names; prints the rule's id."""

    async def work(session: Session) -> str:
        wanted = NewRule(Did.parse(did), copies, rse_expression, lifetime_s=lifetime_s)
        return await session.datasets.add_rule(wanted)

    typer.echo(run(home, work))


@app.command("list")
def list_(
    did: Annotated[str | None, typer.Argument(help="Only rules of this dataset")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List rules and how they stand."""

    async def work(session: Session) -> list[RuleInfo]:
        if did is not None:
            return await session.datasets.did_rules(Did.parse(did))
        return await session.datasets.list_rules()

    show([row(rule) for rule in run(home, work)], COLUMNS, json=json)


@app.command()
def delete(rule_id: str, home: HomeOption = None) -> None:
    """End a rule; what no other rule keeps may be removed."""
    run(home, lambda session: session.datasets.delete_rule(rule_id))


def row(rule: RuleInfo) -> dict[str, Any]:
    """Return a rule as a row."""
    locks = f"{rule.locks_ok}/{rule.locks_replicating}/{rule.locks_stuck}"
    return {
        "id": rule.id,
        "did": str(rule.did),
        "rse_expression": rule.rse_expression,
        "copies": rule.copies,
        "state": str(rule.state),
        "locks": locks,
        "error": rule.error,
        "account": rule.account,
        "expires_at": rule.expires_at,
    }
