"""Whether a node is as the template now wants it; pure."""

from collections.abc import Sequence

from twinfra.orchestration.deployments.model.records import Node, NodeRun
from twinfra.orchestration.deployments.model.states import Role, RunState


def is_ready(node: Node, runs: Sequence[NodeRun]) -> bool:
    """Say whether what `node` asks for now is there; one that waits for events always is.

    Args:
        node: as the template wants it; its generation is of its last change.
        runs: of its deployment, or of the node.
    """
    if node.armed:
        return True
    mine = [run for run in runs if run.node == node.name and run.generation >= node.generation]
    if node.role is Role.SERVICE:
        return any(run.id == node.active_run for run in mine)
    return any(run.state is RunState.SUCCEEDED for run in mine)
