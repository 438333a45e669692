"""``twinfra kubelet``: sites as nodes of a Kubernetes cluster."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from twinfra.cli.options import HomeOption, open_home
from twinfra.cli.processes import run_process
from twinfra.core.errors import InvalidRequest
from twinfra.core.service import Context

app = typer.Typer(no_args_is_help=True, help="Sites as nodes of a Kubernetes cluster.")


@app.callback()
def _group() -> None:
    """Sites as nodes of a Kubernetes cluster."""


@app.command()
def run(
    node: Annotated[
        list[str] | None,
        typer.Option(help="NAME, or NAME=URL of its interLink API; may be given many times"),
    ] = None,
    interlink: Annotated[
        str, typer.Option(help="URL of the interLink API of the one node that --node names")
    ] = "",
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Which cluster, and as whom; default: settings, or this pod")
    ] = None,
    identity: Annotated[
        str, typer.Option(help="Name of this replica in the nodes' leases; default: the host's")
    ] = "",
    home: HomeOption = None,
) -> None:
    """Run virtual nodes: pods bound to them run at their sites; jobs outlive this program."""
    from twinfra.compute.kubelet.wiring import build  # noqa: PLC0415 - only this command needs it

    context = Context(open_home(home))
    named = nodes_of(node or [], interlink)
    service = build(context, nodes=named, kubeconfig=kubeconfig, identity=identity)
    run_process(context, "kubelet", [service])


@app.command()
def install(
    uninstall: Annotated[bool, typer.Option(help="Take all of it back")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done")] = False,
    version_check: Annotated[
        bool, typer.Option(help="Only say whether the cluster is new enough")
    ] = False,
    issuer: Annotated[
        list[str] | None,
        typer.Option(help="Stamp the people of this issuer alone; may be given many times"),
    ] = None,
    controller: Annotated[
        list[str] | None,
        typer.Option(help="User that may copy stamps as the cluster's controllers do"),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Which cluster, and as whom; default: settings, or this pod")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Let unchanged pods of labelled namespaces go to virtual nodes: policies and rights."""
    from twinfra.compute.kubelet.placement.wiring import installer  # noqa: PLC0415 - as above

    context = Context(open_home(home))

    async def work() -> None:
        async with installer(
            context, kubeconfig, issuers=issuer or (), controllers=controller or ()
        ) as made:
            if version_check:
                typer.echo(f"{await made.version()}: new enough")
                return
            act = made.uninstall if uninstall else made.install
            for done in await act(dry_run=dry_run):
                typer.echo(f"{done.deed.value:9} {done.kind} {done.name}")

    asyncio.run(work())


def nodes_of(words: list[str], interlink: str) -> dict[str, str]:
    """Return the URL of each node that the command line names; empty: as the settings say.

    Raises:
        InvalidRequest: a node has no name, or ``--interlink`` could mean more than one.
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, url = word.partition("=")
        if not name:
            raise InvalidRequest(f"--node {word}: a node needs a name")
        found[name] = url
    if interlink:
        if len(found) != 1:
            raise InvalidRequest("--interlink goes with one --node; give each --node NAME=URL")
        found = dict.fromkeys(found, interlink)
    return found
