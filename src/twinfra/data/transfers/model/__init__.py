"""What a transfer is: states, checksums, submissions, views and verdicts; pure, without any I/O.

The words and spellings of the wire are those of FTS3; its REST interface is the neighbour
(``api.py`` speaks it, ``client.py`` calls it, ours or a foreign server's).
"""

from twinfra.data.transfers.model.checksums import Checksum, parse_checksum, same_digest
from twinfra.data.transfers.model.states import FileState, JobState, job_state
from twinfra.data.transfers.model.submission import NewTransfer, Submission, TransferParams
from twinfra.data.transfers.model.views import FileStatus, JobStatus

__all__ = [
    "Checksum",
    "FileState",
    "FileStatus",
    "JobState",
    "JobStatus",
    "NewTransfer",
    "Submission",
    "TransferParams",
    "job_state",
    "parse_checksum",
    "same_digest",
]
