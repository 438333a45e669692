"""The typed client of a transfer service: ours, or any server that speaks FTS3's REST interface.

Only standard FTS3 calls are used, so a foreign server behind the same URL serves as well. Keeps no
state; errors come as ``core.http.client`` maps them (a duplicate is a ``Conflict``).
"""

from collections.abc import Sequence
from typing import Any

from twinfra.core.http.client import HttpClient
from twinfra.data.transfers.model import (
    Checksum,
    FileState,
    FileStatus,
    JobState,
    JobStatus,
    NewTransfer,
    Submission,
    TransferParams,
)
from twinfra.data.transfers.model.states import job_state_of
from twinfra.data.transfers.model.views import parse_file, parse_job

__all__ = [
    "Checksum",
    "FileState",
    "FileStatus",
    "JobState",
    "JobStatus",
    "NewTransfer",
    "Submission",
    "TransferParams",
    "TransfersClient",
]

FILE_FIELDS = (
    "file_id,file_index,file_state,source_surl,dest_surl,start_time,finish_time,staging_start,"
    "staging_finished,reason,filesize,checksum,file_metadata"
)


class TransfersClient:
    """Submits, watches and cancels transfers.

    Args:
        http: a client on the service's base URL; its token is used unless a call brings its own.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def whoami(self, *, token: str | None = None) -> dict[str, Any]:
        """Return who the service thinks we are (``user_dn``, ``vos``, ``base_id``, …)."""
        reply = await self._http.request("GET", "/whoami", token=token)
        answer: dict[str, Any] = reply.json()
        return answer

    async def submit(
        self,
        files: Sequence[NewTransfer],
        params: TransferParams | None = None,
        *,
        token: str | None = None,
    ) -> str:
        """Submit a job and return its id.

        With ``params.sid`` the id is derived from it: the same submission again is a ``Conflict``,
        and nothing is copied twice.

        Raises:
            InvalidRequest: the submission breaks a rule; trying again does not help.
            Conflict: a job with this ``sid`` exists.
        """
        body = Submission(tuple(files), params or TransferParams()).to_wire()
        reply = await self._http.request("POST", "/jobs", json=body, token=token)
        return str(reply.json()["job_id"])

    async def status(self, job_id: str, *, token: str | None = None) -> JobStatus:
        """Return one job with its files.

        Raises:
            NotFound: the service does not know it.
        """
        job = (await self._http.request("GET", f"/jobs/{job_id}", token=token)).json()
        files = (await self._http.request("GET", f"/jobs/{job_id}/files", token=token)).json()
        return parse_job(job, files)

    async def statuses(
        self, job_ids: Sequence[str], *, token: str | None = None
    ) -> dict[str, JobStatus]:
        """Return many jobs with their files in one call; an unknown one has ``known=False``."""
        if not job_ids:
            return {}
        reply = await self._http.request(
            "GET",
            f"/jobs/{','.join(job_ids)}",
            params={"files": FILE_FIELDS},
            token=token,
            expect=(200, 207, 404),
        )
        answer = reply.json()
        if isinstance(answer, dict) and "job_id" not in answer:
            answer = {"job_id": job_ids[0], "http_status": "404 Not Found"}
        jobs = [parse_job(job) for job in (answer if isinstance(answer, list) else [answer])]
        return {job.job_id: job for job in jobs}

    async def files(self, job_id: str, *, token: str | None = None) -> list[FileStatus]:
        """Return the files of a job."""
        reply = await self._http.request("GET", f"/jobs/{job_id}/files", token=token)
        return [parse_file(file) for file in reply.json()]

    async def jobs(
        self,
        *,
        states: Sequence[JobState] = (),
        limit: int = 100,
        token: str | None = None,
    ) -> list[JobStatus]:
        """Return jobs that the caller may see, newest first; without `states` those under way."""
        params = {"limit": str(limit)}
        if states:
            params["state_in"] = ",".join(state.value for state in states)
        reply = await self._http.request("GET", "/jobs", params=params, token=token)
        return [parse_job(job) for job in reply.json()]

    async def cancel(self, job_id: str, *, token: str | None = None) -> JobState:
        """Cancel a job and return the state that it is left in; a finished one stays finished.

        Raises:
            NotFound: the service does not know it.
        """
        reply = await self._http.request("DELETE", f"/jobs/{job_id}", token=token)
        return job_state_of(str(reply.json()["job_state"]))

    async def set_priority(self, job_id: str, priority: int, *, token: str | None = None) -> None:
        """Change a job's priority, 1 (least) to 5."""
        body = {"params": {"priority": priority}}
        await self._http.request("POST", f"/jobs/{job_id}", json=body, token=token)
