"""Asks registries what images are made for; who does not say so in time says nothing.

A pod's ``imagePullSecrets`` are shown to their registries. Nothing is pulled here, and which
registries a site pulls from is the site's business.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from twinfra.compute.containers.images.names import (
    Credential,
    credentials_of,
    host_of,
    whole_name,
)
from twinfra.compute.containers.images.registry import RegistryPull
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.resources import SECRETS
from twinfra.compute.kubelet.placement.choosing import Platform
from twinfra.compute.kubelet.placement.objects import GatedPod
from twinfra.compute.kubelet.placement.settings import PlacementSettings
from twinfra.core.errors import TwinfraError, Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

UNKNOWN_KEPT_S = 60.0
"""A registry that did not say is asked again after so long."""
Key = tuple[str, Credential | None]


class _Secret(msgspec.Struct):
    data: dict[str, str] | None = None


@dataclass
class _Answer:
    """What is known of an image, and until when [s]; `asking` lets one ask for all."""

    platforms: frozenset[Platform] = frozenset()
    until_s: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class RegistryImages:
    """An `Images` on the registries that pods name.

    Args:
        client: on the API server, for the pods' secrets.
        settings: how patient, how much is kept, which registries speak plain HTTP.
        clock: tells how old an answer is.
    """

    def __init__(self, client: KubeClient, settings: PlacementSettings, clock: Clock) -> None:
        self._client, self._settings, self._clock = client, settings, clock
        cafile = settings.registry_cafile
        self._tls = ssl.create_default_context(cafile=cafile) if cafile else None
        self._known: OrderedDict[Key, _Answer] = OrderedDict()
        self._away: dict[str, float] = {}

    async def platforms(self, pod: GatedPod) -> Mapping[str, frozenset[Platform]]:
        """Return what each image of a pod is made for, of those whose registry says so."""
        spec = pod.spec
        containers = (*spec.containers, *(spec.init_containers or ()))
        images = sorted({str(each.get("image")) for each in containers if each.get("image")})
        accounts = await self._accounts(pod)
        found = await asyncio.gather(*(self._of(image, accounts) for image in images))
        return {image: each for image, each in zip(images, found, strict=True) if each}

    async def _of(self, image: str, accounts: Mapping[str, Credential]) -> frozenset[Platform]:
        host = host_of(whole_name(image))
        key = (image, accounts.get(host))
        answer = self._known.setdefault(key, _Answer())
        self._known.move_to_end(key)
        while len(self._known) > self._settings.images_kept:
            self._known.popitem(last=False)
        async with answer.asking:
            now_s = self._clock.monotonic()
            if answer.until_s <= now_s and self._away.get(host, 0.0) <= now_s:
                plain = host in self._settings.plain_registries
                answer.platforms = await self._ask(*key, plain=plain)
                kept_s = self._settings.images_kept_s if answer.platforms else UNKNOWN_KEPT_S
                answer.until_s = self._clock.monotonic() + kept_s
        return answer.platforms

    async def _ask(
        self, image: str, account: Credential | None, *, plain: bool
    ) -> frozenset[Platform]:
        try:
            async with asyncio.timeout(self._settings.registry_answer_s):
                told = await RegistryPull(image, account, plain=plain, tls=self._tls).platforms()
        except (Unavailable, TimeoutError) as error:
            self._note_away(host_of(whole_name(image)))
            log.info("image_platforms_not_told", image=image, why=str(error) or "no answer in time")
            return frozenset()
        except Exception as error:  # noqa: BLE001 - the edge of strangers' answers: no pod waits for it
            log.info("image_platforms_not_told", image=image, why=repr(error))
            return frozenset()
        return frozenset(Platform(*each) for each in told)

    def _note_away(self, host: str) -> None:
        """Ask a registry that gave no answer again after a while, whichever image is wanted."""
        now_s = self._clock.monotonic()
        self._away = {name: until_s for name, until_s in self._away.items() if until_s > now_s}
        self._away[host] = now_s + UNKNOWN_KEPT_S

    async def _accounts(self, pod: GatedPod) -> dict[str, Credential]:
        """Return the pod's accounts by registry; a secret that is none or not there has none."""
        found: dict[str, Credential] = {}
        for name in _secrets(pod):
            try:
                secret = await self._client.get(SECRETS, name, pod.metadata.namespace, kind=_Secret)
                found |= credentials_of({"data": secret.data})
            except TwinfraError as error:
                log.info("pull_secret_not_read", uid=pod.metadata.uid, code=error.code)
        return found


def _secrets(pod: GatedPod) -> Iterable[str]:
    entries = pod.spec.image_pull_secrets or ()
    return [str(each["name"]) for each in entries if each.get("name")]
