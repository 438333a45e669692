"""How jobs, files and people look in FTS3's answers; pure. Neighbour: ``api.py``.

Source: the job and file objects of fts-rest-flask; keys that a service of ours has nothing for are
there with null, since clients such as Rucio read them without asking.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.access.model import Principal
from twinfra.data.transfers.model.links import storage_of
from twinfra.data.transfers.model.records import BASE_ID, Attempt, Job, Owner, TransferFile
from twinfra.data.transfers.model.states import FileState
from twinfra.data.transfers.model.views import fts_time

API_VERSION = {"major": 3, "minor": 14, "patch": 0}
HOST = "twinfra"


def root_document() -> dict[str, Any]:
    """Return what ``GET /`` says; FTS's own clients ask it before anything else."""
    return {
        "api": API_VERSION,
        "core": API_VERSION,
        "delegation": {"major": 1, "minor": 0, "patch": 0},
        "schema": {"major": 1, "minor": 0, "patch": 0},
        "_links": {
            "fts:whoami": {"href": "/whoami", "title": "Who the caller is"},
            "fts:submitJob": {"href": "/jobs", "method": "POST", "title": "Submit a job"},
            "fts:joblist": {
                "href": "/jobs{?vo_name,user_dn,dlg_id,state_in,source_se,dest_se,limit}",
                "title": "Jobs",
                "templated": True,
            },
            "fts:job": {"href": "/jobs/{id}", "title": "A job", "templated": True},
        },
    }


def whoami_document(principal: Principal, owner: Owner) -> dict[str, Any]:
    """Return what ``GET /whoami`` says; ``vos[0]`` and ``base_id`` make deterministic job ids."""
    vos = [owner.vo, *sorted(principal.groups - {owner.vo})]
    return {
        "user_dn": owner.sub,
        "dn": [owner.sub],
        "vos": vos,
        "vos_id": [str(_vo_id(vo)) for vo in vos],
        "voms_cred": [],
        "roles": [],
        "level": {"transfer": "user", "config": None},
        "delegation_id": owner.delegation_id,
        "base_id": str(BASE_ID),
        "method": "oauth2",
        "is_root": False,
    }


def job_document(job: Job, files: Sequence[TransferFile]) -> dict[str, Any]:
    """Return a job as ``GET /jobs/ID`` shows it; `files` give its storages."""
    params = job.params
    return {
        "job_id": job.job_id,
        "job_state": job.state.value,
        "job_type": job.kind,
        "reason": job.reason,
        "submit_time": fts_time(job.submitted_at),
        "job_finished": fts_time(job.finished_at),
        "finish_time": fts_time(job.finished_at),
        "job_metadata": job.metadata,
        "job_params": "",
        "internal_job_params": None,
        "user_dn": job.owner.sub,
        "cred_id": job.owner.delegation_id,
        "vo_name": job.owner.vo,
        "priority": job.priority,
        "source_se": storage_of(files[0].source_url) if files else None,
        "dest_se": storage_of(files[0].dest_url) if files else None,
        "max_time_in_queue": params.get("max_time_in_queue"),
        "overwrite_flag": bool(params.get("overwrite")),
        "checksum_method": params.get("verify_checksum"),
        "retry": params.get("retry"),
        "retry_delay": params.get("retry_delay"),
        "copy_pin_lifetime": -1,
        "bring_online": -1,
        "source_space_token": None,
        "space_token": None,
        "submit_host": HOST,
        "cancel_job": job.state.value == "CANCELED",
    }


def file_document(file: TransferFile) -> dict[str, Any]:
    """Return a file as ``GET /jobs/ID/files`` shows it; ``transferred`` are the bytes so far."""
    duration_s = file.duration_s
    moved = file.size_bytes if file.state is FileState.FINISHED else None
    throughput = moved / duration_s / 1048576 if moved and duration_s else None
    return {
        "file_id": file.file_id,
        "file_index": file.file_index,
        "job_id": file.job_id,
        "source_surl": file.source_url,
        "dest_surl": file.dest_url,
        "source_se": storage_of(file.source_url),
        "dest_se": storage_of(file.dest_url),
        "file_state": file.state.value,
        "reason": file.reason or "",
        "filesize": file.size_bytes if file.size_bytes is not None else file.user_size_bytes,
        "user_filesize": file.user_size_bytes,
        "transferred": file.transferred_bytes,
        "checksum": file.checksum,
        "start_time": fts_time(file.started_at),
        "finish_time": fts_time(file.finished_at),
        "staging_start": None,
        "staging_finished": None,
        "archive_start_time": None,
        "archive_finish_time": None,
        "tx_duration": duration_s,
        "throughput": throughput,
        "retry": file.attempt - 1,
        "transfer_host": HOST,
        "log_file": None,
        "activity": file.activity,
        "priority": file.priority,
        "hashed_id": file.file_id % 65536,
        "file_metadata": file.metadata,
    }


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """Return one failed try."""
    return {
        "attempt": attempt.attempt,
        "datetime": fts_time(attempt.at),
        "reason": attempt.reason,
        "transfer_host": HOST,
        "transferred": attempt.transferred_bytes,
    }


def chosen(document: Mapping[str, Any], fields: str | None) -> dict[str, Any]:
    """Return the named keys of a document, null where it has none; all without names."""
    if not fields:
        return dict(document)
    return {name: document.get(name) for name in fields.split(",") if name}


def missing_job(job_id: str) -> dict[str, Any]:
    """Return the entry of a job that is not known, within an answer for many."""
    return {
        "job_id": job_id,
        "http_status": "404 Not Found",
        "http_message": f'No job with the id "{job_id}" has been found',
    }


def _vo_id(vo: str) -> str:
    return Owner(issuer="vo", sub=vo, vo=vo).delegation_id
