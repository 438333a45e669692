"""What jobs and services wrote: from their site while it has it, else what was kept at the end."""

from twinfra.core.errors import TwinfraError
from twinfra.orchestration.deployments.model.records import Attempt, Deployment
from twinfra.orchestration.deployments.service.kit import Kit
from twinfra.orchestration.infrastructure.model import Handle

NODES_MOST = 50


async def node_logs(
    kit: Kit, deployment: Deployment, *, node: str | None, tail_lines: int
) -> list[tuple[str, str]]:
    """Return the end of the newest log of each node, or of one; its title first."""
    async with kit.store.view() as view:
        tried = await view.attempts(deployment=deployment.id)
    newest = {each.node: each for each in tried if node in {None, each.node}}
    found = []
    for name, attempt in list(newest.items())[:NODES_MOST]:
        title = f"{name}: attempt {attempt.number} at {attempt.target.site}, {attempt.id}"
        found.append((title, await attempt_log(kit, deployment, attempt, tail_lines=tail_lines)))
    return found


async def attempt_log(
    kit: Kit, deployment: Deployment, attempt: Attempt, *, tail_lines: int
) -> str:
    """Return the end of an attempt's log."""
    if attempt.ended_at is not None and attempt.log_tail:
        return attempt.log_tail
    if attempt.gone:
        return ""
    handle = Handle.of(attempt.id, attempt.node, deployment.group)
    try:
        return await kit.driver.logs(attempt.target, handle, tail_lines=tail_lines)
    except TwinfraError as error:
        return attempt.log_tail or f"({error.detail})"
