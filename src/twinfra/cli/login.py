"""``twinfra login``: the device flow; the login is kept in a file that only you can read."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from twinfra.cli.options import HomeOption, open_home

app = typer.Typer()


@app.command()
def login(
    home: HomeOption = None,
    person: Annotated[
        str | None,
        typer.Option("--as", help="At a development issuer whose home you can read: sign in so."),
    ] = None,
) -> None:
    """Log in; opens nothing, prints where to go."""
    name = asyncio.run(_sign_in(home, person))
    typer.echo(f"logged in as {name}")


async def _sign_in(home: Path | None, person: str | None) -> str:
    from twinfra.access.login import IssuerClient  # noqa: PLC0415 - kept off the path of --help
    from twinfra.access.person_tokens import PersonTokens, sign_in_here  # noqa: PLC0415 - as above
    from twinfra.cli.session import login_of  # noqa: PLC0415 - as above
    from twinfra.core.service import Context  # noqa: PLC0415 - as above

    context = Context(open_home(home))
    store = login_of(context)
    if person is not None:
        tokens = await sign_in_here(context, person, store)
    else:
        client = IssuerClient.from_context(context)
        tokens = PersonTokens(client, store)
        await tokens.signed_in(
            await client.device(
                lambda prompt: typer.echo(
                    f"open {prompt.verification_uri_complete}\nand compare: {prompt.user_code}"
                )
            )
        )
    await tokens.close()
    return tokens.sub or "nobody"
