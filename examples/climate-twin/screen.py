"""The demo's screen: a bar for each transfer, a state for each job, the summary at the end."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table

from twinfra.core.bus import Event

JOB, TRANSFER = "org.twinfra.job.", "org.twinfra.transfer."
OVER = {"Succeeded", "Failed"}


class Screen:
    """A live display fed by events; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console()
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=self.console
        )
        self._tasks: dict[str, TaskID] = {}
        self._phases: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Begin the live display."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the live display."""
        self._bars.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        """Let an event move a bar or tell a job's state."""
        data = event.data if isinstance(event.data, dict) else {}
        if event.type.startswith(TRANSFER) and data.get("total_bytes"):
            self._move(data, done=event.type.endswith("finished"))
        elif event.type.startswith(JOB) and self._phases.get(data["uid"]) != data["phase"]:
            self._phases[data["uid"]] = data["phase"]
            node = data.get("node") or data["uid"][:8]
            ended = data["phase"] == "Failed" and data.get("reason") == "Cancelled"
            self.say(f"  job {node} at {data['site']}: {'Ended' if ended else data['phase']}")

    def _move(self, data: dict[str, Any], *, done: bool) -> None:
        key = f"{data['job_id']}/{data['file_id']}"
        if key not in self._tasks:
            name = data["dest_url"].rpartition("/")[2]
            self._tasks[key] = self._bars.add_task(name, total=data["total_bytes"])
        moved = data["total_bytes"] if done else data.get("bytes") or 0
        self._bars.update(self._tasks[key], completed=moved)

    def table(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Print a table."""
        made = Table(title=title, title_justify="left")
        for column in columns:
            made.add_column(column, overflow="fold")
        for row in rows:
            made.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
        self.console.print(made)
