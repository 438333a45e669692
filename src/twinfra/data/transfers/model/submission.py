"""What a caller asks for: files with their sources, one destination each, and the job's options.

Reads and writes the body of FTS3's ``POST /jobs``. Knows no HTTP and no database.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from twinfra.core.errors import InvalidRequest
from twinfra.data.transfers.model.checksums import Checksum, parse_checksum

SCHEMES = {"https": "https", "davs": "https", "http": "http", "dav": "http"}
VERIFY = {"b": "both", "s": "source", "t": "target", "n": "none"}
_QUEUE_TIME = re.compile(r"(\d+)\s*([hms]?)")
_QUEUE_UNIT_S = {"": 3600, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class NewTransfer:
    """One wanted file: sources in the order in which they are tried, and where it goes.

    ``source_tokens`` has one token a source or is empty; ``metadata`` comes back verbatim.
    """

    sources: tuple[str, ...]
    destination: str
    source_tokens: tuple[str, ...] = ()
    destination_token: str | None = None
    size_bytes: int | None = None
    checksum: Checksum | None = None
    metadata: Any = None
    activity: str = "default"
    selection_strategy: str = "orderly"

    def to_wire(self) -> dict[str, Any]:
        """Return the entry of ``files`` in FTS's spelling."""
        entry: dict[str, Any] = {
            "sources": list(self.sources),
            "destinations": [self.destination],
            "metadata": self.metadata,
            "activity": self.activity,
            "selection_strategy": self.selection_strategy,
        }
        if self.size_bytes is not None:
            entry["filesize"] = self.size_bytes
        if self.checksum is not None:
            entry["checksum"] = str(self.checksum)
        if self.source_tokens:
            entry["source_tokens"] = list(self.source_tokens)
            entry["destination_tokens"] = [self.destination_token]
        return entry


@dataclass(frozen=True)
class TransferParams:
    """Options of a job; the defaults are those that suit a managed data lake.

    ``retry`` counts tries after the first one a source (negative: none, 0: the server's default).
    ``max_in_queue_s`` and ``timeout_s`` of 0 mean the server's own bounds.
    """

    verify_checksum: str = "both"
    overwrite: bool = False
    overwrite_on_retry: bool = False
    strict_copy: bool = False
    disable_cleanup: bool = False
    retry: int = 0
    retry_delay_s: float = 0.0
    priority: int = 3
    max_in_queue_s: float = 0.0
    timeout_s: float = 0.0
    job_metadata: Any = None
    sid: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return ``params`` in FTS's spelling."""
        wire: dict[str, Any] = {
            "verify_checksum": self.verify_checksum,
            "overwrite": self.overwrite,
            "overwrite_on_retry": self.overwrite_on_retry,
            "strict_copy": self.strict_copy,
            "disable_cleanup": self.disable_cleanup,
            "retry": self.retry,
            "retry_delay": int(self.retry_delay_s),
            "priority": self.priority,
            "job_metadata": self.job_metadata,
        }
        if self.max_in_queue_s:
            wire["max_time_in_queue"] = f"{int(self.max_in_queue_s)}s"
        if self.timeout_s:
            wire["timeout"] = int(self.timeout_s)
        if self.sid is not None:
            wire |= {"id_generator": "deterministic", "sid": self.sid}
        return wire

    @property
    def checks_source(self) -> bool:
        """Whether the source's checksum is compared with the caller's."""
        return self.verify_checksum in {"both", "source"} and not self.strict_copy

    @property
    def checks_target(self) -> bool:
        """Whether the copy's checksum is compared."""
        return self.verify_checksum in {"both", "target"} and not self.strict_copy


@dataclass(frozen=True)
class Submission:
    """A whole job as asked for."""

    files: tuple[NewTransfer, ...]
    params: TransferParams = field(default_factory=TransferParams)

    def to_wire(self) -> dict[str, Any]:
        """Return the body of ``POST /jobs``."""
        return {"files": [file.to_wire() for file in self.files], "params": self.params.to_wire()}


def parse_submission(body: Any, *, max_files: int) -> Submission:
    """Read the body of ``POST /jobs``.

    Raises:
        InvalidRequest: it is not one, or asks for what this service does not offer.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("the submission is not a JSON object")
    files = body.get("files") or body.get("Files")
    if body.get("delete") or body.get("staging"):
        raise InvalidRequest("deletion and staging jobs are not offered here")
    if not isinstance(files, Sequence) or isinstance(files, str) or not files:
        raise InvalidRequest("No transfers are given: 'files' is missing or empty")
    if len(files) > max_files:
        raise InvalidRequest(f"a job holds at most {max_files} files, this one has {len(files)}")
    params = body.get("params") or {}
    if not isinstance(params, Mapping):
        raise InvalidRequest("'params' is not an object")
    parsed = tuple(_file(entry, params, index) for index, entry in enumerate(files))
    seen: set[str] = set()
    for file in parsed:
        if file.destination in seen:
            raise InvalidRequest(f"the destination {file.destination} is named twice in one job")
        seen.add(file.destination)
    return Submission(parsed, parse_params(params))


def parse_params(params: Mapping[str, Any]) -> TransferParams:
    """Read ``params``; keys that do not concern this service are let pass.

    Raises:
        InvalidRequest: a value is impossible or asks for what this service does not offer.
    """
    for unsupported in ("multihop", "overwrite_when_only_on_disk"):
        if params.get(unsupported):
            raise InvalidRequest(f"'{unsupported}' is not offered here")
    for tape in ("bring_online", "archive_timeout"):
        if _number(params, tape, -1) > 0:
            raise InvalidRequest(f"'{tape}' is not offered here: there is no tape")
    overwrite, on_retry = bool(params.get("overwrite")), bool(params.get("overwrite_on_retry"))
    if overwrite and on_retry:
        raise InvalidRequest("Incompatible overwrite flags: overwrite and overwrite_on_retry")
    priority = int(_number(params, "priority", 3))
    if not 1 <= priority <= 5:
        raise InvalidRequest(f"priority {priority} is not between 1 and 5")
    deterministic = params.get("id_generator") == "deterministic"
    sid = params.get("sid")
    if deterministic and not sid:
        raise InvalidRequest("id_generator 'deterministic' needs a 'sid'")
    return TransferParams(
        verify_checksum=_verify(params.get("verify_checksum")),
        overwrite=overwrite,
        overwrite_on_retry=on_retry,
        strict_copy=bool(params.get("strict_copy")),
        disable_cleanup=bool(params.get("disable_cleanup")),
        retry=int(_number(params, "retry", 0)),
        retry_delay_s=max(0.0, _number(params, "retry_delay", 0)),
        priority=priority,
        max_in_queue_s=_queue_time(params.get("max_time_in_queue")),
        timeout_s=max(0.0, _number(params, "timeout", 0)),
        job_metadata=params.get("job_metadata"),
        sid=str(sid) if deterministic else None,
    )


def _file(entry: Any, params: Mapping[str, Any], index: int) -> NewTransfer:
    where = f"file {index}"
    if not isinstance(entry, Mapping):
        raise InvalidRequest(f"{where} is not an object")
    sources = _urls(entry.get("sources"), f"{where}: sources")
    destinations = _urls(entry.get("destinations"), f"{where}: destinations")
    if len(destinations) > 1:
        raise InvalidRequest(f"{where} names more than one destination")
    source_tokens = _tokens(entry.get("source_tokens"), len(sources), f"{where}: source_tokens")
    destination_tokens = _tokens(
        entry.get("destination_tokens"), len(destinations), f"{where}: destination_tokens"
    )
    if bool(source_tokens) != bool(destination_tokens):
        raise InvalidRequest(f"{where}: tokens are needed for both source and destination")
    try:
        checksum = parse_checksum(entry.get("checksum") or params.get("checksum"))
    except ValueError as error:
        raise InvalidRequest(f"{where}: {error}") from error
    size = entry.get("filesize") or params.get("filesize")
    metadata = entry.get("metadata")
    return NewTransfer(
        sources=sources,
        destination=destinations[0],
        source_tokens=source_tokens,
        destination_token=destination_tokens[0] if destination_tokens else None,
        size_bytes=int(size) if size else None,
        checksum=checksum,
        metadata=metadata if metadata is not None else params.get("file_metadata"),
        activity=str(entry.get("activity") or params.get("activity") or "default"),
        selection_strategy=str(entry.get("selection_strategy") or "orderly"),
    )


def _urls(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise InvalidRequest(f"{where} is missing or empty")
    return tuple(_url(str(url).strip(), where) for url in value)


def _url(url: str, where: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        allowed = ", ".join(sorted(SCHEMES))
        raise InvalidRequest(f"{where}: {url!r} has none of the schemes {allowed}")
    if not parts.hostname or parts.path in {"", "/"} or parts.username is not None:
        raise InvalidRequest(f"{where}: {url!r} is not a URL of a file")
    return url


def _tokens(value: Any, count: int, where: str) -> tuple[str, ...]:
    if not value:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise InvalidRequest(f"{where}: exactly one token a URL is needed")
    if not all(isinstance(token, str) and token for token in value):
        raise InvalidRequest(f"{where}: a token is empty")
    return tuple(value)


def _number(params: Mapping[str, Any], name: str, default: float) -> float:
    value = params.get(name)
    if value is None or value == "":
        return default
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"'{name}' is not a number: {value!r}") from error


def _verify(value: Any) -> str:
    if value is None or value is False:
        return "none"
    if value is True:
        return "both"
    found = VERIFY.get(str(value)[:1].lower())
    if found is None:
        raise InvalidRequest(f"verify_checksum {value!r} is none of both, source, target, none")
    return found


def _queue_time(value: Any) -> float:
    if value in {None, "", 0}:
        return 0.0
    match = _QUEUE_TIME.fullmatch(str(value).strip())
    if match is None:
        raise InvalidRequest(f"max_time_in_queue {value!r} is not a time such as 24 or 30m")
    return float(int(match[1]) * _QUEUE_UNIT_S[match[2]])
