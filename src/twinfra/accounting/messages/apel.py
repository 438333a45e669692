"""Job records as an APEL individual job message, version 0.3. Pure.

A header line, then per record one line ``Key: value`` each, records divided by ``%%``. Integers are
plain decimals, moments whole seconds since 1970, memory whole kilobytes. The benchmark is always
given: a record without it is refused by APEL's loader, whatever the documentation says.

Source: EGI accounting documentation, job records v0.3; behaviour of apel 2.5.0's loader.
"""

from collections.abc import Iterator, Sequence

from twinfra.accounting.messages.text import SEPARATOR, NotSpellable, ascii_only, user_name
from twinfra.accounting.model import JobUsage
from twinfra.accounting.settings import AccountingSettings, SiteFacts

HEADER = "APEL-individual-job-message: v0.3"
DESCRIPTION = "APEL-TWINFRA-INTERLINK"
BENCHMARK = "hepscore23"
MAX_RECORDS = 1000
MAX_KB = 2**31 - 1
MAX_INT = 2**32 - 1
TEXT_LIMIT = 255
QUEUE_LIMIT = 100
TYPE_LIMIT = 20
MANDATORY = frozenset({"Site", "SubmitHost", "LocalJobId"})
NULLS = frozenset({"", "none", "null"})


def job_message(records: Sequence[JobUsage], settings: AccountingSettings) -> str:
    """Return the message of `records`.

    Raises:
        NotSpellable: a value would break the message or APEL's table; names record and field.
    """
    if not 0 < len(records) <= MAX_RECORDS:
        raise NotSpellable(f"a message has 1 to {MAX_RECORDS} records")
    blocks = [_block(record, settings) for record in records]
    return f"{HEADER}\n" + "".join(f"{block}\n{SEPARATOR}\n" for block in blocks)


def _block(record: JobUsage, settings: AccountingSettings) -> str:
    try:
        return "\n".join(f"{key}: {value}" for key, value in _lines(record, settings))
    except NotSpellable as error:
        raise NotSpellable(f"record {record.id}: {error.detail}") from error


def _lines(record: JobUsage, settings: AccountingSettings) -> Iterator[tuple[str, str]]:
    facts = settings.sites.get(record.site, SiteFacts())
    texts = (
        ("Site", facts.name or record.site, TEXT_LIMIT),
        ("SubmitHost", record.submit_host or record.site, TEXT_LIMIT),
        ("MachineName", record.machine_name, TEXT_LIMIT),
        ("Queue", record.queue, QUEUE_LIMIT),
        ("LocalJobId", record.local_job_id, TEXT_LIMIT),
        ("LocalUserId", record.local_user, TEXT_LIMIT),
        ("GlobalUserName", user_name(record, settings), TEXT_LIMIT),
        ("FQAN", f"/{record.group}" if record.group else None, TEXT_LIMIT),
    )
    for key, value, limit in texts:
        if value is not None:
            yield key, _text(key, value, limit)
    yield "WallDuration", _whole("WallDuration", record.wall_s)
    yield "CpuDuration", _whole("CpuDuration", record.cpu_s)
    yield "Processors", _whole("Processors", record.processors)
    yield "NodeCount", _whole("NodeCount", record.nodes)
    yield "StartTime", _whole("StartTime", int(record.started_at.timestamp()))
    yield "EndTime", _whole("EndTime", int(record.ended_at.timestamp()))
    yield "InfrastructureDescription", DESCRIPTION
    kind = ascii_only("InfrastructureType", facts.infrastructure_type, TYPE_LIMIT)
    yield "InfrastructureType", kind
    if record.memory_peak_bytes is not None and record.memory_peak_bytes // 1024 <= MAX_KB:
        yield "MemoryReal", str(record.memory_peak_bytes // 1024)
    yield "ServiceLevelType", BENCHMARK
    yield "ServiceLevel", _decimal(_benchmark(record, facts, settings))


def _text(field: str, value: str, limit: int) -> str:
    """Spell a text; one that their reader takes for nothing must not stand in a needed field."""
    text = ascii_only(field, value, limit)
    if field in MANDATORY and text.strip().lower() in NULLS:
        raise NotSpellable(f"{field} reads as nothing")
    return text


def _benchmark(record: JobUsage, facts: SiteFacts, settings: AccountingSettings) -> float:
    return record.benchmark_hepscore23 or facts.benchmark_hepscore23 or settings.default_hepscore23


def _whole(field: str, value: int) -> str:
    if not 0 <= value <= MAX_INT:
        raise NotSpellable(f"{field} is not between 0 and {MAX_INT}")
    return str(value)


def _decimal(value: float) -> str:
    """Spell a DECIMAL(10,3), never in exponents."""
    return f"{value:.3f}"
