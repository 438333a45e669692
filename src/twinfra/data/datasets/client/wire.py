"""How a Rucio server's answers become our values and our values its requests.

Pure. Moments go as RFC 1123 with ``UTC``, lists as one JSON object a line.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from twinfra.data.datasets.model import (
    DatasetReplica,
    Did,
    DidInfo,
    DidType,
    FileInfo,
    FileSpec,
    LockInfo,
    NewCollection,
    NewRule,
    ReplicaInfo,
    ReplicaState,
    RuleInfo,
    RuleState,
)

RUCIO_TIME = "%a, %d %b %Y %H:%M:%S UTC"


def path_of(did: Did) -> str:
    """Return ``<scope>/<name>`` for a URL, slashes of the name encoded as Rucio's clients do."""
    return f"{quote(did.scope, safe='')}/{quote(did.name, safe='')}"


def lines_of(body: bytes) -> list[Any]:
    """Read a JSON stream."""
    return [json.loads(line) for line in body.splitlines() if line.strip()]


def did_of(entry: Mapping[str, Any]) -> Did:
    """Read the pair that names data."""
    return Did(entry["scope"], entry["name"])


def did_dict(did: Did) -> dict[str, str]:
    """Spell the pair that names data."""
    return {"scope": did.scope, "name": did.name}


def moment_of(text: Any) -> datetime | None:
    """Read a moment; nothing gives nothing."""
    return datetime.strptime(text, RUCIO_TIME).replace(tzinfo=UTC) if text else None


def collection_dict(new: NewCollection) -> dict[str, Any]:
    """Spell an entry of ``POST /dids``."""
    entry: dict[str, Any] = {
        **did_dict(new.did),
        "type": new.type.value,
        "statuses": {"monotonic": new.monotonic},
        "meta": dict(new.meta),
    }
    if new.lifetime_s is not None:
        entry["lifetime"] = new.lifetime_s
    return entry


def file_dict(file: FileSpec) -> dict[str, Any]:
    """Spell an entry of ``POST /replicas``."""
    entry: dict[str, Any] = {
        **did_dict(file.did),
        "bytes": file.size_bytes,
        "meta": dict(file.meta),
    }
    optional = {"adler32": file.adler32, "md5": file.md5, "pfn": file.pfn}
    entry |= {key: value for key, value in optional.items() if value is not None}
    if file.state is not ReplicaState.AVAILABLE:
        entry["state"] = file.state.value
    return entry


def rule_dict(rule: NewRule) -> dict[str, Any]:
    """Spell the body of ``POST /rules/``."""
    return {
        "dids": [did_dict(rule.did)],
        "account": rule.account,
        "copies": rule.copies,
        "rse_expression": rule.rse_expression,
        "grouping": rule.grouping.value,
        "weight": rule.weight,
        "lifetime": rule.lifetime_s,
        "locked": rule.locked,
        "source_replica_expression": rule.source_replica_expression,
        "activity": rule.activity,
        "notify": rule.notify,
        "purge_replicas": rule.purge_replicas,
        "ignore_availability": rule.ignore_availability,
        "comment": rule.comment,
        "priority": rule.priority,
        "meta": dict(rule.meta),
    }


def did_info(entry: Mapping[str, Any]) -> DidInfo:
    """Read the answer of ``GET /dids/<scope>/<name>``."""
    return DidInfo(
        did=did_of(entry),
        type=DidType(entry["type"]),
        account=entry["account"],
        is_open=entry.get("open"),
        monotonic=bool(entry.get("monotonic")),
        size_bytes=entry.get("bytes"),
        length=entry.get("length"),
        adler32=entry.get("adler32"),
        md5=entry.get("md5"),
        expires_at=moment_of(entry.get("expired_at")),
    )


def file_info(entry: Mapping[str, Any]) -> FileInfo:
    """Read a line of ``GET /dids/<scope>/<name>/files``."""
    return FileInfo(did_of(entry), entry.get("bytes"), entry.get("adler32"), entry.get("md5"))


def replica_info(entry: Mapping[str, Any]) -> ReplicaInfo:
    """Read a line of ``POST /replicas/list``."""
    return ReplicaInfo(
        did=did_of(entry),
        size_bytes=entry.get("bytes"),
        adler32=entry.get("adler32"),
        md5=entry.get("md5"),
        pfns={rse: tuple(pfns) for rse, pfns in entry.get("rses", {}).items()},
        states={rse: ReplicaState(state) for rse, state in (entry.get("states") or {}).items()},
    )


def dataset_replica(entry: Mapping[str, Any]) -> DatasetReplica:
    """Read a line of ``GET /replicas/<scope>/<name>/datasets``."""
    return DatasetReplica(
        did=did_of(entry),
        rse=entry["rse"],
        length=entry["length"] or 0,
        available_length=entry["available_length"] or 0,
        size_bytes=entry["bytes"] or 0,
        available_bytes=entry["available_bytes"] or 0,
    )


def rule_info(entry: Mapping[str, Any]) -> RuleInfo:
    """Read a rule; ``meta`` comes as JSON text from a Rucio server, as an object from ours."""
    meta = entry.get("meta") or {}
    return RuleInfo(
        id=entry["id"],
        did=did_of(entry),
        did_type=entry.get("did_type") or "",
        account=entry["account"],
        copies=entry["copies"],
        rse_expression=entry["rse_expression"],
        state=RuleState(entry["state"]),
        locks_ok=entry["locks_ok_cnt"],
        locks_replicating=entry["locks_replicating_cnt"],
        locks_stuck=entry["locks_stuck_cnt"],
        error=entry.get("error"),
        expires_at=moment_of(entry.get("expires_at")),
        activity=entry.get("activity"),
        comment=entry.get("comments"),
        meta=json.loads(meta) if isinstance(meta, str) else meta,
        created_at=moment_of(entry.get("created_at")),
        updated_at=moment_of(entry.get("updated_at")),
    )


def lock_info(entry: Mapping[str, Any]) -> LockInfo:
    """Read a line of ``GET /rules/<id>/locks``."""
    return LockInfo(did_of(entry), entry["rse"], entry["state"], entry["rule_id"])


def dids_body(dids: Sequence[Did]) -> list[dict[str, str]]:
    """Spell a list of data identifiers."""
    return [did_dict(did) for did in dids]
