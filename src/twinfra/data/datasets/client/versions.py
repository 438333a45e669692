"""Versions of a result, made of plain Rucio calls: reserve a number, publish it, find the latest.

A writer reserves a version, uploads its files below the version's name, then publishes it. Both
steps are keyed by the job, so that a writer that died between them simply does them again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.core.errors import Conflict, NotFound
from twinfra.data.datasets.client.dids import DidCalls
from twinfra.data.datasets.client.replicas import ReplicaCalls
from twinfra.data.datasets.model import (
    Did,
    DidType,
    FileSpec,
    NewCollection,
    Version,
    latest,
    version_did,
    version_of,
)
from twinfra.data.datasets.model.versions import versions

JOB = "job"
TRIES = 100


class VersionCalls(DidCalls, ReplicaCalls):
    """Containers that hold a result's versions."""

    async def latest_version(self, container: Did, *, token: str | None = None) -> Version | None:
        """Return the highest published version of `container`, or none.

        Raises:
            NotFound: there is no such container.
        """
        members = await self.list_content(container, token=token)
        return latest(container, [did for did, _ in members])

    async def list_versions(self, container: Did, *, token: str | None = None) -> list[Version]:
        """Return the published versions of `container`, lowest first."""
        members = await self.list_content(container, token=token)
        return versions(container, [did for did, _ in members])

    async def resolve(self, did: Did, *, token: str | None = None) -> Did:
        """Return `did` itself, or the latest version where it is a container that has versions.

        Raises:
            NotFound: there is no such data identifier.
        """
        if (await self.get_did(did, token=token)).type is not DidType.CONTAINER:
            return did
        found = await self.latest_version(did, token=token)
        return found.did if found else did

    async def reserve_version(
        self, container: Did, job_uid: str, *, token: str | None = None
    ) -> Version:
        """Return the version that this job writes: an open dataset that nobody else uses.

        Guarantees: the same job gets the same version again; two jobs never get one number. The
        container comes into being if it is not there. The version is not visible in the container
        before `publish_version`.

        Raises:
            Conflict: the name of the container is a dataset's or a file's.
        """
        made = NewCollection(container, DidType.CONTAINER)
        await self.dids_add([made], exist_ok=True, token=token)
        pattern = {"name": f"{container.name}.v*"}
        named = await self.search(container.scope, pattern, type_="dataset", token=token)
        taken = versions(container, named)
        own = await self.search(
            container.scope, {**pattern, JOB: job_uid}, type_="dataset", token=token
        )
        for version in versions(container, own):
            return version
        number = taken[-1].number + 1 if taken else 1
        for candidate in range(number, number + TRIES):
            did = version_did(container, candidate)
            try:
                await self.dids_add([NewCollection(did, meta={JOB: job_uid})], token=token)
            except Conflict:
                meta = await self.get_meta(did, token=token)
                if meta.get(JOB) != job_uid:
                    continue
            return Version(candidate, did)
        raise Conflict(f"no free version number for {container}")

    async def publish_version(
        self,
        container: Did,
        version: Version,
        rse: str,
        files: Sequence[FileSpec],
        meta: Mapping[str, Any],
        *,
        token: str | None = None,
    ) -> None:
        """Register the files of a reserved version, describe and close it, show it in `container`.

        Guarantees: repeating it after a crash anywhere within leads to the same end.

        Args:
            container: that gets the version.
            version: as reserved.
            rse: where the files stand.
            files: all of the version's; without a PFN at their usual place.
            meta: lineage: ``job deployment inputs site image`` and what else matters.
            token: acts for a person.
        """
        info = await self.get_did(version.did, token=token)
        if info.is_open:
            await self.add_replicas(rse, files, token=token)
            await self.set_meta(version.did, meta, token=token)
            if files:
                await self.attach(version.did, [file.did for file in files], token=token)
            await self.close(version.did, token=token)
        await self.attach(container, [version.did], token=token)

    async def new_version(
        self,
        container: Did,
        job_uid: str,
        rse: str,
        files: Sequence[FileSpec],
        meta: Mapping[str, Any],
        *,
        token: str | None = None,
    ) -> Version:
        """Reserve and publish in one go, for files that stand where they are already."""
        version = await self.reserve_version(container, job_uid, token=token)
        await self.publish_version(
            container, version, rse, files, {JOB: job_uid, **meta}, token=token
        )
        return version

    async def version_of_job(
        self, container: Did, job_uid: str, *, token: str | None = None
    ) -> Version | None:
        """Return the version of `container` that a job wrote, published or not, or none."""
        pattern = {"name": f"{container.name}.v*", JOB: job_uid}
        try:
            own = await self.search(container.scope, pattern, type_="dataset", token=token)
        except NotFound:
            return None
        return next((v for did in own if (v := version_of(container, did)) is not None), None)
