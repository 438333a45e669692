"""``twinfra transfer``: third-party transfers as they go."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from twinfra.cli.options import HomeOption, JsonOption, print_json
from twinfra.cli.session import Session, run
from twinfra.cli.tables import show
from twinfra.data.transfers.client import JobState

app = typer.Typer(no_args_is_help=True, help="Third-party transfers: list and show.")


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Finished ones too")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List transfer jobs, newest first."""

    async def work(session: Session) -> list[dict[str, Any]]:
        states = tuple(JobState) if everything else ()
        jobs = await session.transfers.jobs(states=states)
        return [{"job": job.job_id, "state": job.state, "reason": job.reason} for job in jobs]

    show(run(home, work), ("job", "state", "reason"), json=json)


@app.command("show")
def show_(job_id: str, home: HomeOption = None) -> None:
    """Show the files of a job as JSON."""
    files = run(home, lambda session: session.transfers.files(job_id))
    print_json([asdict(file) for file in files])
