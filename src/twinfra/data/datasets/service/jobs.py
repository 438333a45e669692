"""A submission's job put together: URLs, checksums, tokens, and whom it is for.

Tokens are as narrow as can be had at a bounded price: one a folder and storage, for the rights that
the copy needs there. Sends nothing but questions for tokens; ``submissions`` hands the job over.
"""

from collections.abc import Mapping, Sequence

from twinfra.data.datasets.errors import ProtocolNotSupported
from twinfra.data.datasets.model.rses import Rse, common_folder, token_target
from twinfra.data.datasets.ports import Copy, Delegation, Job, RequestRow, RuleRow, Tokens

MAX_FOLDERS = 8
READ = ("read",)
WRITE = ("modify", "create", "read")
PERSON = (("iss", "issuer"), ("sub", "sub"))


class JobMaker:
    """Puts jobs together.

    Args:
        tokens: rights of the rules' owners.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def make(
        self,
        sid: str,
        rule: RuleRow,
        requests: Sequence[RequestRow],
        urls: Mapping[int, Sequence[str]],
        origins: Mapping[str, Rse],
        target: Rse,
    ) -> Job:
        """Put the job together, with one token for each folder and storage."""
        delegation = rule.delegation
        doors = target.doors("third_party_copy_write") or target.doors("write")
        if not doors:
            raise ProtocolNotSupported(f"{target.name} has no protocol that can be written to")
        dest = {
            one.id: doors[0].url(target.path_at(one.file.did, doors[0], None)) for one in requests
        }
        wanted = {url: origins[url] for listed in urls.values() for url in listed}
        read = await self._folder_tokens(delegation, wanted, READ)
        write = await self._folder_tokens(delegation, dict.fromkeys(dest.values(), target), WRITE)
        copies = [
            Copy(
                sources=tuple(urls[one.id]),
                source_tokens=tuple(read[url] for url in urls[one.id]),
                destination=dest[one.id],
                destination_token=write[dest[one.id]],
                size_bytes=one.file.size_bytes,
                adler32=one.file.adler32,
                md5=one.file.md5,
                metadata=_file_metadata(one, target, [origins[u].name for u in urls[one.id]]),
            )
            for one in requests
        ]
        person = {key: (delegation or {}).get(name) for key, name in PERSON}
        metadata = {
            "issuer": "datasets",
            "rule_id": rule.id,
            "account": rule.account,
            "person": person if person["sub"] else None,
            "group": rule.group or None,
            "deployment": rule.deployment or None,
            "node": rule.meta.get("node"),
            "multi_sources": any(len(copy.sources) > 1 for copy in copies),
        }
        kept = {key: value for key, value in metadata.items() if value is not None}
        return Job(sid, copies, kept, rule.activity, rule.priority)

    async def _folder_tokens(
        self, delegation: Delegation | None, urls: Mapping[str, Rse], capabilities: Sequence[str]
    ) -> dict[str, str]:
        """Return a token by URL: one a folder, or one for all where folders are many."""
        places = {url: token_target(rse, url) for url, rse in urls.items()}
        folders = {(audience, common_folder([path])) for audience, path in places.values()}
        if len(folders) > MAX_FOLDERS:
            by_audience: dict[str, list[str]] = {}
            for audience, path in places.values():
                by_audience.setdefault(audience, []).append(path)
            shared = {audience: common_folder(paths) for audience, paths in by_audience.items()}
            wanted = {url: (audience, shared[audience]) for url, (audience, _) in places.items()}
        else:
            wanted = {
                url: (audience, common_folder([path])) for url, (audience, path) in places.items()
            }
        tokens = {
            (audience, folder): await self._tokens.for_storage(
                delegation, audience, " ".join(f"storage.{one}:{folder}" for one in capabilities)
            )
            for audience, folder in sorted(set(wanted.values()))
        }
        return {url: tokens[target] for url, target in wanted.items()}


def _file_metadata(request: RequestRow, target: Rse, sources: Sequence[str]) -> dict[str, object]:
    """Return what comes back with each file's status; the request's id is what counts."""
    return {
        "request_id": str(request.id),
        "scope": request.file.did.scope,
        "name": request.file.did.name,
        "request_type": "TRANSFER",
        "src_rse": sources[0],
        "dst_rse": target.name,
        "filesize": request.file.size_bytes,
        "adler32": request.file.adler32,
        "md5": request.file.md5,
    }
