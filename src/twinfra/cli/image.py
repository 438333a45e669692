"""``twinfra image build RECIPE``: a container image from Debian packages and hashed wheels."""

from pathlib import Path
from typing import Annotated

import typer

from twinfra.cli.options import HomeOption, open_home
from twinfra.compute.containers.images.build import build_image
from twinfra.compute.containers.images.recipe import read_recipe

app = typer.Typer(no_args_is_help=True, help="Build container images without a registry.")


@app.callback()
def _group() -> None:
    """Build container images without a registry."""


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="TOML file beside what it copies", exists=True)],
    layout: Annotated[Path | None, typer.Option(help="OCI layout; default: the home's")] = None,
    home: HomeOption = None,
) -> None:
    """Build an image into an OCI layout and print its reference by digest."""

    def tell(step: str, detail: str) -> None:
        typer.echo(f"{step}: {detail}", err=True)

    place = layout or open_home(home).images
    place.mkdir(parents=True, exist_ok=True)
    built = build_image(read_recipe(recipe), place, tell)
    typer.echo(f"{built.reference.partition(':')[0]}@{built.digest}")
