"""The table-driven engine behind all durable work."""

from twinfra.core.workflow.engine import Engine
from twinfra.core.workflow.model import (
    Done,
    Fail,
    Goto,
    Leg,
    Next,
    Outcome,
    Run,
    Step,
    Wait,
    Workflow,
    WorkState,
)
from twinfra.core.workflow.queue import workflow_table

__all__ = [
    "Done",
    "Engine",
    "Fail",
    "Goto",
    "Leg",
    "Next",
    "Outcome",
    "Run",
    "Step",
    "Wait",
    "WorkState",
    "Workflow",
    "workflow_table",
]
