"""How Rucio shows data identifiers, replicas, storages, rules and locks."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from twinfra.data.datasets.errors import InvalidObject
from twinfra.data.datasets.model import Did, DidType, ReplicaState
from twinfra.data.datasets.model.rses import (
    DEFAULT_PORTS,
    IDENTITY,
    LFN2PFN,
    OPERATIONS,
    WAN,
    Protocol,
    Rse,
)
from twinfra.data.datasets.ports import DidRow, LockRow, ReplicaRow, ReplicaSummary, RuleRow

TIME_KEYS = ("created_at", "updated_at", "closed_at")


def did_shape(row: DidRow, length: int | None, size_bytes: int | None) -> dict[str, Any]:
    """Show a data identifier."""
    shape = {
        "scope": row.did.scope,
        "name": row.did.name,
        "type": row.type.value,
        "account": row.account,
        "bytes": size_bytes,
        "length": length,
    }
    if row.type is DidType.FILE:
        return shape | {"md5": row.md5, "adler32": row.adler32}
    return shape | {
        "open": row.is_open,
        "monotonic": row.monotonic,
        "expired_at": row.expires_at,
    }


def member_shape(row: DidRow) -> dict[str, Any]:
    """Show what stands in a collection."""
    return {
        "scope": row.did.scope,
        "name": row.did.name,
        "type": row.type.value,
        "bytes": row.size_bytes,
        "adler32": row.adler32,
        "md5": row.md5,
    }


def file_shape(row: DidRow) -> dict[str, Any]:
    """Show a file below a collection."""
    return {
        "scope": row.did.scope,
        "name": row.did.name,
        "bytes": row.size_bytes,
        "adler32": row.adler32,
        "md5": row.md5,
        "guid": row.meta.get("guid"),
        "events": row.meta.get("events"),
    }


def found_shape(row: DidRow) -> dict[str, Any]:
    """Show a result of a search."""
    return {
        "scope": row.did.scope,
        "name": row.did.name,
        "did_type": row.type.value,
        "bytes": row.size_bytes,
        "length": 1 if row.type is DidType.FILE else None,
    }


def columns_shape(row: DidRow) -> dict[str, Any]:
    """Show the built-in metadata, as Rucio's plug-in DID_COLUMN does."""
    collection = row.type.is_collection
    return {
        "scope": row.did.scope,
        "name": row.did.name,
        "account": row.account,
        "did_type": row.type.value,
        "is_open": row.is_open if collection else None,
        "monotonic": row.monotonic,
        "hidden": False,
        "obsolete": False,
        "complete": None,
        "availability": "AVAILABLE",
        "suppressed": False,
        "bytes": row.size_bytes,
        "length": None if collection else 1,
        "md5": row.md5,
        "adler32": row.adler32,
        "expired_at": row.expires_at,
        "purge_replicas": True,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "closed_at": row.closed_at,
    }


async def replica_shapes(
    rows: AsyncIterable[ReplicaRow],
    rses: Mapping[int, Rse],
    schemes: Sequence[str] | None,
    domain: str | None,
) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """Show each file with its number and replicas; rows of a file come one after the other."""
    current: DidRow | None = None
    held: list[ReplicaRow] = []
    async for row in rows:
        if current is not None and row.file.id != current.id:
            yield current.id, replica_shape(current, held, rses, schemes, domain)
            held = []
        current = row.file
        if row.rse_id is not None:
            held.append(row)
    if current is not None:
        yield current.id, replica_shape(current, held, rses, schemes, domain)


def replica_shape(
    file: DidRow,
    rows: Sequence[ReplicaRow],
    rses: Mapping[int, Rse],
    schemes: Sequence[str] | None,
    domain: str | None,
) -> dict[str, Any]:
    """Show a file with its replicas: PFNs in one order, and by storage."""
    pfns: dict[str, dict[str, Any]] = {}
    by_rse: dict[str, list[str]] = {}
    states: dict[str, str] = {}
    for row in rows:
        rse = rses[row.rse_id or 0]
        states[rse.name] = (row.state or ReplicaState.UNAVAILABLE).value
        for door in rse.doors("read", domain or WAN, schemes):
            pfn = door.url(rse.path_at(file.did, door, row.path))
            by_rse.setdefault(rse.name, []).append(pfn)
            pfns[pfn] = {
                "rse_id": rse.id,
                "rse": rse.name,
                "type": rse.rse_type,
                "volatile": rse.volatile,
                "domain": domain or WAN,
                "priority": len(pfns) + 1,
                "client_extract": False,
            }
    return {
        "scope": file.did.scope,
        "name": file.did.name,
        "bytes": file.size_bytes,
        "md5": file.md5,
        "adler32": file.adler32,
        "pfns": pfns,
        "rses": by_rse,
        "states": states,
    }


def summary_shape(one: ReplicaSummary, rse: Rse) -> dict[str, Any]:
    """Show how much of a dataset a storage holds."""
    whole = one.available_length == one.length
    return {
        "scope": one.dataset.did.scope,
        "name": one.dataset.did.name,
        "rse": rse.name,
        "rse_id": rse.id,
        "bytes": one.size_bytes,
        "length": one.length,
        "available_bytes": one.available_bytes,
        "available_length": one.available_length,
        "state": (ReplicaState.AVAILABLE if whole else ReplicaState.UNAVAILABLE).value,
        "created_at": one.dataset.created_at,
        "updated_at": one.updated_at,
        "accessed_at": None,
    }


def protocol_shape(protocol: Protocol) -> dict[str, Any]:
    """Show a door."""
    return {
        "scheme": protocol.scheme,
        "hostname": protocol.hostname,
        "port": protocol.port,
        "prefix": protocol.prefix,
        "impl": protocol.impl,
        "domains": {
            domain: {one: (protocol.domains.get(domain) or {}).get(one) for one in OPERATIONS}
            for domain in ("lan", "wan")
        },
        "extended_attributes": dict(protocol.extended_attributes) or None,
    }


def rse_shape(rse: Rse) -> dict[str, Any]:
    """Show a storage with its doors."""
    flags = ("availability_read", "availability_write", "availability_delete")
    shape: dict[str, Any] = {
        **rse.place,
        "id": rse.id,
        "rse": rse.name,
        "rse_type": rse.rse_type,
        "deterministic": rse.deterministic,
        "volatile": rse.volatile,
        "staging_area": rse.staging_area,
        **{flag: getattr(rse, flag) for flag in flags},
        "availability": 4 * rse.availability_read
        + 2 * rse.availability_write
        + rse.availability_delete,
        "credentials": None,
        "domain": ["lan", "wan"],
        "lfn2pfn_algorithm": rse.attributes.get(LFN2PFN, IDENTITY),
        "protocols": [protocol_shape(one) for one in rse.protocols],
        "qos_class": None,
        "sign_url": None,
        "verify_checksum": bool(rse.attributes.get("verify_checksum", True)),
        "vo": "def",
        "deleted": False,
    }
    return shape | {f"{one}_protocol": 1 for one in OPERATIONS}


def protocol_of(scheme: str, facts: Mapping[str, Any]) -> Protocol:
    """Read a door as Rucio's clients describe it; a prefix gets its slash at the end."""
    prefix, port = str(facts.get("prefix") or "/"), str(facts.get("port") or "0")
    if not port.isdecimal() or not isinstance(facts.get("domains") or {}, Mapping):
        raise InvalidObject("a protocol has a port, which is a number, and domains, an object")
    return Protocol(
        scheme=scheme,
        hostname=str(facts.get("hostname") or "localhost"),
        port=int(port) or DEFAULT_PORTS.get(scheme, 0),
        prefix=prefix if prefix.endswith("/") else prefix + "/",
        impl=str(facts.get("impl") or ""),
        domains=facts.get("domains") or {},
        extended_attributes=facts.get("extended_attributes") or {},
    )


def rule_shape(rule: RuleRow) -> dict[str, Any]:
    """Show a rule; never its delegation."""
    return {
        "id": rule.id,
        "scope": rule.did.scope,
        "name": rule.did.name,
        "did_type": rule.did_type.value,
        "account": rule.account,
        "copies": rule.copies,
        "rse_expression": rule.rse_expression,
        "grouping": rule.grouping.value,
        "state": rule.state.value,
        "error": rule.error,
        "locks_ok_cnt": rule.locks_ok,
        "locks_replicating_cnt": rule.locks_replicating,
        "locks_stuck_cnt": rule.locks_stuck,
        "expires_at": rule.expires_at,
        "locked": rule.locked,
        "weight": rule.weight,
        "source_replica_expression": rule.source_replica_expression,
        "activity": rule.activity,
        "comments": rule.comment,
        "meta": dict(rule.meta),
        "priority": rule.priority,
        "notification": rule.notify,
        "purge_replicas": rule.purge_replicas,
        "ignore_availability": rule.ignore_availability,
        "ignore_account_limit": True,
        "stuck_at": rule.stuck_at,
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
        "subscription_id": None,
        "child_rule_id": None,
        "eol_at": None,
        "split_container": False,
        "bytes": None,
        "length": rule.locks_ok + rule.locks_replicating + rule.locks_stuck,
    }


def lock_shape(lock: LockRow, names: Mapping[int, str]) -> dict[str, Any]:
    """Show a lock."""
    return {
        "scope": lock.did.scope,
        "name": lock.did.name,
        "rse": names[lock.rse_id],
        "state": lock.state.value,
        "rule_id": lock.rule_id,
        "bytes": lock.size_bytes,
        "reason": lock.reason,
    }


def usage_shape(rse: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Show what is said about a storage's space."""
    return [
        {
            "rse": rse,
            "source": row["source"],
            "used": row["used_bytes"],
            "free": row["free_bytes"],
            "total": (
                row["used_bytes"] + row["free_bytes"]
                if row["used_bytes"] is not None and row["free_bytes"] is not None
                else None
            ),
            "files": row["files"],
            "updated_at": row["updated_at"],
        }
        for row in rows
    ]


def did_of(entry: Mapping[str, Any]) -> Did:
    """Read the pair that names data."""
    return Did(str(entry["scope"]), str(entry["name"]))
