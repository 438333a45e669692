"""``twinfra deploy``: twins from TOSCA templates: deploy, follow, look into, remove.

What a program reads goes to standard output; progress goes to standard error, so that both can be
had at once. Exit code 1 says that the deployment failed, 2 that the request was refused.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from twinfra.cli.deploy_views import (
    WHY_COLUMNS,
    echo_event,
    placement_rows,
    show_document,
    show_whole,
)
from twinfra.cli.options import HomeOption, JsonOption, print_json
from twinfra.cli.session import Session, run
from twinfra.cli.tables import show
from twinfra.core.errors import InvalidRequest, TwinfraError, UpstreamTimeout
from twinfra.core.ids import new_uuid
from twinfra.orchestration.deployments.client import Status

app = typer.Typer(no_args_is_help=True, help="Deploy twins from TOSCA templates, look into them.")
COLUMNS = ("uuid", "status", "task", "userGroup", "cloudProviderName", "creationTime")
COMPLETE_WITHIN_S = 2.0


def _known(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the deployments whose id begins so, for the shell; none where nobody answers."""

    async def work(session: Session) -> list[dict[str, Any]]:
        async with asyncio.timeout(COMPLETE_WITHIN_S):
            return await session.deployments.deployments()

    try:
        found = run(ctx.params.get("home"), work)
    except (TwinfraError, OSError):
        return []
    pairs = [(str(each["uuid"]), str(each["status"])) for each in found]
    return [pair for pair in pairs if pair[0].startswith(incomplete)]


IdArgument = Annotated[str, typer.Argument(help="UUID of the deployment", autocompletion=_known)]
TemplateArgument = Annotated[Path, typer.Argument(help="TOSCA template; - is standard input")]
ParameterOption = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="name=value of an input, repeatable")
]
ParametersOption = Annotated[
    Path | None, typer.Option("--parameters", help="YAML or JSON file with values of the inputs")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Follow it until nothing is under way")]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", min=0, help="Stop waiting after so many seconds")
]


@app.command()
def create(  # noqa: PLR0913 - the options of the command
    template: TemplateArgument,
    *,
    parameter: ParameterOption = None,
    parameters: ParametersOption = None,
    group: Annotated[str | None, typer.Option(help="Group that it belongs to")] = None,
    key: Annotated[
        str | None, typer.Option(help="The same request under the same key is accepted once")
    ] = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Deploy a template; prints the deployment's id at once, or its end with --wait."""
    text = read_text(template)
    values = read_values(text, parameters, parameter or [])
    wishes = {} if group is None else {"userGroup": group}

    async def work(session: Session) -> dict[str, Any]:
        made = await session.deployments.create(
            text, values, repeat_key=key or new_uuid(), **wishes
        )
        if not wait:
            return made
        typer.echo(f"deployment {made['uuid']} accepted", err=True)
        return await _settled(session, str(made["uuid"]), timeout)

    found = run(home, work)
    if wait:
        _tell_end(found, json=json)
    elif json:
        print_json(found)
    else:
        typer.echo(found["uuid"])


@app.command()
def update(  # noqa: PLR0913 - the options of the command
    deployment: IdArgument,
    template: TemplateArgument,
    *,
    parameter: ParameterOption = None,
    parameters: ParametersOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Replace the template of a deployment; given parameters are merged into those in force."""
    text = read_text(template)
    values = read_values(text, parameters, parameter or [])

    async def work(session: Session) -> dict[str, Any]:
        changed = await session.deployments.update(deployment, text, values)
        return await _settled(session, deployment, timeout) if wait else changed

    found = run(home, work)
    if wait:
        _tell_end(found, json=json)
    else:
        show_document(found, json=json)


@app.command("list")
def list_(
    group: Annotated[str | None, typer.Option(help="Those of a group of yours")] = None,
    status: Annotated[Status | None, typer.Option(help="Only in this status")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List your deployments, newest first."""
    filters = {"userGroup": group, "status": status and status.value}
    given = {name: value for name, value in filters.items() if value}
    rows = run(home, lambda session: session.deployments.deployments(**given))
    show(rows, COLUMNS, json=json)


@app.command("show")
def show_(deployment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show status, nodes, tries, and why each node runs where it runs."""

    async def work(session: Session) -> dict[str, Any]:
        client = session.deployments
        return {
            "deployment": await client.get(deployment),
            "resources": await client.resources(deployment),
            "attempts": await client.attempts(deployment),
            "placement": await client.placement(deployment),
        }

    found = run(home, work)
    if json:
        print_json(found)
    else:
        show_whole(found)


@app.command()
def why(deployment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show what each site was worth for each node, and which sites were no candidates."""
    placed = run(home, lambda session: session.deployments.placement(deployment))
    show(placed if json else placement_rows(placed), WHY_COLUMNS, json=json)


@app.command()
def wait(
    deployment: IdArgument,
    timeout: TimeoutOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Follow a deployment until nothing is under way; exit code 1 if it failed."""
    found = run(home, lambda session: _settled(session, deployment, timeout))
    _tell_end(found, json=json)


@app.command()
def delete(
    deployment: IdArgument,
    force: Annotated[bool, typer.Option(help="Do not wait for sites that are away")] = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Remove a deployment; one that is being removed or gone already is fine."""

    async def work(session: Session) -> dict[str, Any]:
        await session.deployments.delete(deployment, force=force)
        if wait:
            return await _settled(session, deployment, timeout)
        return await session.deployments.get(deployment)

    found = run(home, work)
    if wait:
        _tell_end(found, json=json)
    elif json:
        print_json(found)


@app.command()
def logs(
    deployment: IdArgument,
    node: Annotated[str | None, typer.Argument(help="Only of this node")] = None,
    tail: Annotated[int, typer.Option(min=1, max=10_000, help="Last lines of each")] = 1000,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Print what happened, then the end of what the jobs wrote."""
    text = run(home, lambda session: session.deployments.log(deployment, node=node, tail=tail))
    if json:
        print_json(text.splitlines())
    else:
        typer.echo(text, nl=False)


@app.command()
def template(deployment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Print the template in force."""
    text = run(home, lambda session: session.deployments.template(deployment))
    if json:
        print_json({"template": text})
    else:
        typer.echo(text, nl=False)


@app.command()
def outputs(
    deployment: IdArgument,
    name: Annotated[str | None, typer.Argument(help="Only the value of this output")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Print the outputs, such as addresses of services."""
    found = dict(run(home, lambda session: session.deployments.get(deployment))["outputs"])
    if name is not None and name not in found:
        raise InvalidRequest(f"no output {name!r}; there are: {', '.join(found) or 'none'}")
    if json:
        print_json(found if name is None else found[name])
    elif name is not None:
        typer.echo(found[name])
    else:
        show(
            [{"output": key, "value": found[key]} for key in found], ("output", "value"), json=json
        )


async def _settled(session: Session, deployment: str, timeout_s: float | None) -> dict[str, Any]:
    """Follow a deployment, saying what happens; return it when nothing is under way.

    Raises:
        UpstreamTimeout: it is not so within `timeout_s`; the deployment goes on.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await session.deployments.wait_settled(deployment, tell=echo_event)
    except TimeoutError as error:
        raise UpstreamTimeout(
            f"deployment {deployment} is still under way after {timeout_s:g} s and goes on;"
            f" follow it: twinfra deploy wait {deployment}"
        ) from error


def _tell_end(found: Mapping[str, Any], *, json: bool) -> None:
    """Show how it ended; a failure is the exit code too."""
    show_document(found, json=json)
    if str(found["status"]).endswith("_FAILED"):
        raise typer.Exit(1)


def read_text(path: Path) -> str:
    """Return what stands in a file that the caller named.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error


def read_values(template: str, file: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Return the values of the inputs: those of the file, and the single ones over them.

    A single value is YAML, but text stays text where the template declares a string.

    Raises:
        InvalidRequest: the file holds no mapping, or a pair no ``=``.
    """
    found = {} if file is None else _mapping(read_text(file), str(file))
    types = _input_types(template)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"parameter {pair!r} is not of the form name=value")
        found[name] = value if types.get(name) == "string" else _yaml(value, f"parameter {name}")
    return found


def _mapping(text: str, what: str) -> dict[str, Any]:
    found = _yaml(text, what)
    if not isinstance(found, dict):
        raise InvalidRequest(f"{what} must hold a mapping of input names to values")
    return found


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{what} is not YAML: {' '.join(str(error).split())}") from error


def _input_types(template: str) -> dict[str, str]:
    """Return the declared types of a template's inputs; of what is malformed the service tells."""
    try:
        inputs = yaml.safe_load(template)["topology_template"]["inputs"]
        return {name: str(inputs[name].get("type", "string")) for name in inputs}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return {}
