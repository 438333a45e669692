"""States of files and jobs, and how a job's state follows from its files'.

Source: the state list of FTS3's REST interface (fts-rest-flask). FTS spells CANCELED; our names
spell CANCELLED and the value is what goes over the wire.
"""

from collections.abc import Iterable
from enum import StrEnum


class FileState(StrEnum):
    """Where one file's transfer stands; the value is FTS's spelling."""

    SUBMITTED = "SUBMITTED"
    READY = "READY"
    ACTIVE = "ACTIVE"
    NOT_USED = "NOT_USED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELED"
    UNKNOWN = "UNKNOWN"

    @property
    def final(self) -> bool:
        """Whether this state is never left."""
        return self in _FILE_FINAL


class JobState(StrEnum):
    """Where a job stands; FINISHEDDIRTY is FTS's word for "some files failed"."""

    SUBMITTED = "SUBMITTED"
    READY = "READY"
    ACTIVE = "ACTIVE"
    FINISHED = "FINISHED"
    FINISHED_DIRTY = "FINISHEDDIRTY"
    FAILED = "FAILED"
    CANCELLED = "CANCELED"
    UNKNOWN = "UNKNOWN"

    @property
    def final(self) -> bool:
        """Whether this state is never left."""
        return self in _JOB_FINAL


_FILE_FINAL = {FileState.FINISHED, FileState.FAILED, FileState.CANCELLED}
_JOB_FINAL = {
    JobState.FINISHED,
    JobState.FINISHED_DIRTY,
    JobState.FAILED,
    JobState.CANCELLED,
}
_WORKING = {FileState.READY, FileState.ACTIVE}


def file_state(text: str) -> FileState:
    """Read a state off the wire; one that is not listed is UNKNOWN, never an error."""
    try:
        return FileState(text)
    except ValueError:
        return FileState.UNKNOWN


def job_state_of(text: str) -> JobState:
    """Read a job's state off the wire; one that is not listed is UNKNOWN, never an error."""
    try:
        return JobState(text)
    except ValueError:
        return JobState.UNKNOWN


def job_state(units: Iterable[Iterable[FileState]]) -> JobState:
    """Return the state of a job.

    Args:
        units: for each wanted file the states of its alternatives (one each source).
    """
    outcomes = [unit_state(states) for states in units]
    if all(outcome.final for outcome in outcomes):
        finished = outcomes.count(FileState.FINISHED)
        if finished == len(outcomes):
            return JobState.FINISHED
        if FileState.CANCELLED in outcomes:
            return JobState.CANCELLED
        return JobState.FINISHED_DIRTY if finished else JobState.FAILED
    if all(outcome is FileState.SUBMITTED for outcome in outcomes):
        return JobState.SUBMITTED
    return JobState.ACTIVE


def unit_state(alternatives: Iterable[FileState]) -> FileState:
    """Return the state of one wanted file from the states of its alternatives.

    One copy that finished is enough; while one is waiting or under way the file is too; it has
    failed only when no alternative is left (those never needed are NOT_USED).
    """
    states = set(alternatives)
    if FileState.FINISHED in states:
        return FileState.FINISHED
    if states & _WORKING:
        return FileState.ACTIVE
    if FileState.SUBMITTED in states:
        return FileState.SUBMITTED
    return FileState.CANCELLED if FileState.CANCELLED in states else FileState.FAILED
