"""Settings of the datasets service."""

from typing import ClassVar

from twinfra.core.settings import SettingsGroup


class DatasetsSettings(SettingsGroup):
    """How rules are kept."""

    section: ClassVar[str] = "datasets"

    workers: int = 16
    """Rules and submissions worked on at once; default: what one event loop does with ease."""

    retry_most: int = 7
    """Attempts for each wanted replica before its rule is STUCK; default: a site that is started
    anew, which takes up to a minute, is waited for."""

    retry_first_s: float = 1.0
    """Pause after a first failed attempt; it doubles."""

    retry_longest_s: float = 300.0
    """The longest pause between two attempts."""

    poll_s: float = 5.0
    """Pause between two looks at a job when no event came (a foreign FTS); it grows eightfold."""

    repair_first_s: float = 60.0
    """When what is STUCK is tried again for the first time; the pause doubles."""

    repair_longest_s: float = 3600.0
    """The longest pause between two repairs."""

    repair_give_up_s: float = 14 * 86400.0
    """A rule that is STUCK for so long is SUSPENDED, as in Rucio; its owner can wake it."""

    files_a_job: int = 200
    """Files in one transfer job; default: Rucio's."""

    requests_a_pass: int = 2000
    """Wanted replicas looked at in one transaction."""

    multi_source_jobs: int = 50
    """Up to so many files with several sources get a job each, with all sources as alternatives;
    more go together with their best source."""

    usage_settle_s: float = 1.0
    """Changes of what is stored are gathered for so long before accounting is told."""

    usage_interval_s: float = 3600.0
    """Accounting is told of all that is stored at least this often."""
