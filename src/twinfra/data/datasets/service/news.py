"""What is told to the world when something became true, within the transaction that made it.

Types and data are those that other services read; a group sees what is in its scope.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.data.datasets.model import Did, DidType
from twinfra.data.datasets.model.rses import Rse
from twinfra.data.datasets.model.versions import version_of
from twinfra.data.datasets.ports import DidRow, RuleRow, Tx

OWN = "org.twinfra."


async def collection_created(tx: Tx, did: Did, type_: DidType) -> None:
    """Tell that a dataset or container came into being."""
    data = {"scope": did.scope, "name": did.name, "type": type_.value}
    await tx.emit(OWN + "dataset.created", str(did), data, group=did.scope)


async def collection_closed(tx: Tx, did: Did) -> None:
    """Tell that nothing joins a collection any more."""
    data = {"scope": did.scope, "name": did.name}
    await tx.emit(OWN + "dataset.closed", str(did), data, group=did.scope)


async def files_added(
    tx: Tx, dataset: Did, files: Sequence[DidRow], places: Mapping[int, Sequence[Rse]]
) -> None:
    """Tell of each file that joined a dataset, and where it stands."""
    for file in files:
        there = places.get(file.id, ())
        first = there[0] if there else None
        data = {
            "scope": file.did.scope,
            "name": file.did.name,
            "dataset": str(dataset),
            "rse": first.name if first else None,
            "site": first.site if first else None,
            "rses": [rse.name for rse in there],
            "size_bytes": file.size_bytes,
        }
        await tx.emit(OWN + "dataset.file-added", str(file.did), data, group=dataset.scope)


async def members_added(tx: Tx, container: Did, members: Sequence[DidRow]) -> None:
    """Tell of each version that joined a container."""
    for member in members:
        version = version_of(container, member.did)
        if version is None:
            continue
        data = {
            "scope": container.scope,
            "name": container.name,
            "version": version.number,
            "dataset": str(member.did),
            "meta": dict(member.meta),
        }
        await tx.emit(OWN + "dataset.version-added", str(container), data, group=container.scope)


async def replicas_available(tx: Tx, rse: Rse, files: Sequence[DidRow]) -> None:
    """Tell of each file that can be read at a storage now, and of the datasets that it is in."""
    datasets: dict[int, list[str]] = {}
    for child_id, parent in await tx.contents.parents([file.id for file in files]):
        datasets.setdefault(child_id, []).append(str(parent.did))
    for file in files:
        data = {
            "scope": file.did.scope,
            "name": file.did.name,
            "rse": rse.name,
            "site": rse.site,
            "size_bytes": file.size_bytes,
            "datasets": datasets.get(file.id, []),
        }
        await tx.emit(OWN + "replica.available", str(file.did), data, group=file.did.scope)


async def replica_bad(tx: Tx, rse: Rse, file: DidRow, reason: str) -> None:
    """Tell that a copy turned out broken."""
    data: dict[str, Any] = {
        "scope": file.did.scope,
        "name": file.did.name,
        "rse": rse.name,
        "site": rse.site,
        "reason": reason,
    }
    await tx.emit(OWN + "replica.bad", str(file.did), data, group=file.did.scope)


async def rule_changed(tx: Tx, rule: RuleRow, state: str, reason: str | None) -> None:
    """Tell how a rule stands now: ``ok``, ``stuck`` or ``replicating``."""
    data = {
        "rule_id": rule.id,
        "scope": rule.did.scope,
        "name": rule.did.name,
        "rse_expression": rule.rse_expression,
        "account": rule.account,
        "reason": reason,
        "meta": dict(rule.meta),
    }
    group = rule.group or rule.did.scope
    await tx.emit(f"{OWN}rule.{state.lower()}", rule.id, data, group=group)
