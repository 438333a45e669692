"""Reads a recipe: one TOML file beside the files that it copies.

    name = "climate-train"          # and, if wanted, tag = "2"; the default is "latest"
    debian = ["python3-minimal"]
    requirements = "requirements.lock"
    entrypoint = ["python3", "/app/train.py"]
    cmd = []
    workdir = "/data"
    user = "1000"
    env = { OMP_NUM_THREADS = "1" }
    labels = { "org.opencontainers.image.title" = "training" }
    [[files]]
    source = "app"
    target = "/app"

It must not build anything: its neighbour `build.py` does.
"""

import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from twinfra.compute.containers.images.model import (
    FileCopy,
    ImageConfig,
    Recipe,
    parse_reference,
)
from twinfra.core.errors import InvalidRequest

_Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?$")]
_Variable = Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")]


class _Files(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: str
    target: Annotated[str, StringConstraints(pattern=r"^/")]


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    tag: str = "latest"
    debian: list[_Package] = Field(default_factory=list)
    requirements: str | None = None
    entrypoint: list[str] = Field(default_factory=list)
    cmd: list[str] = Field(default_factory=list)
    workdir: Annotated[str, StringConstraints(pattern=r"^/")] = "/"
    user: str = ""
    env: dict[_Variable, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    files: list[_Files] = Field(default_factory=list)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; what it names must be there.

    Raises:
        InvalidRequest: not TOML, a wrong field, or a file that is missing or outside its folder.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        raw = _Recipe.model_validate(data)
    except (OSError, ValueError) as error:
        faults = error.errors() if isinstance(error, ValidationError) else []
        details = [{"detail": fault["msg"], "field": str(fault["loc"])} for fault in faults]
        raise InvalidRequest(f"{path.name} is not a recipe", errors=details) from error
    parse_reference(f"{raw.name}:{raw.tag}")
    folder = path.parent.resolve()
    if raw.requirements and not raw.debian:
        raise InvalidRequest(f"{path.name}: wheels need a Debian python3 package")
    return Recipe(
        name=raw.name,
        tag=raw.tag,
        config=ImageConfig(
            env=raw.env,
            entrypoint=tuple(raw.entrypoint),
            cmd=tuple(raw.cmd),
            workdir=raw.workdir,
            user=raw.user,
            labels=raw.labels,
        ),
        debian=tuple(raw.debian),
        requirements=_beside(folder, raw.requirements) if raw.requirements else None,
        files=tuple(_file(folder, item) for item in raw.files),
    )


def _file(folder: Path, item: _Files) -> FileCopy:
    target = PurePosixPath(item.target)
    if ".." in target.parts:
        raise InvalidRequest(f"a target may not hold '..': {item.target}")
    return FileCopy(_beside(folder, item.source), target)


def _beside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise InvalidRequest(f"{name} lies outside of the recipe's folder")
    if not path.exists():
        raise InvalidRequest(f"{name} is not there")
    return path
