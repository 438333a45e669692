"""What is wrong with a template: every fault at once, each with its place."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from twinfra.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True, order=True)
class TemplateProblem:
    """One fault of a template.

    Attributes:
        line: line of the document, from 1; 0 when the fault is in the parameters given beside it.
        column: column of that line, from 1; 0 likewise.
        path: where in the template, dotted: ``topology_template.node_templates.train.type``.
        message: what is wrong and what would be right, one sentence.
    """

    line: int
    column: int
    path: str
    message: str

    def as_dict(self) -> dict[str, str | int]:
        """Return the entry of a problem-details ``errors`` list; ``detail`` repeats the message."""
        return {**asdict(self), "detail": self.message}


class TemplateErrors(InvalidRequest):
    """A template, or the parameters for it, cannot be planned; nothing was done.

    Args:
        problems: all faults that were found, in the order of the document.
    """

    code, title = "invalid-template", "The template is not valid"

    def __init__(self, problems: Sequence[TemplateProblem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        first = self.problems[0]
        more = len(self.problems) - 1
        where = f"line {first.line}, {first.path}" if first.line else first.path
        detail = f"{where}: {first.message}" + (f" (and {more} more)" if more else "")
        super().__init__(detail, errors=[each.as_dict() for each in self.problems])
