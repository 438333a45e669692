"""Hands a pod to its site: once, whatever happens to the answer.

The pod's UID is the key. A refusal (4xx) fails the pod at once, with the site's text. Where the
answer is lost or the site is in trouble (5xx), its state is asked for first; only a site that does
not know the pod gets it again, and only so often.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from twinfra.compute.interlink.client import PodCreateRequest, PodReport
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.resources import PODS
from twinfra.compute.kubelet.model.claims import with_claims
from twinfra.compute.kubelet.model.downward import Host
from twinfra.compute.kubelet.model.environment import resolve
from twinfra.compute.kubelet.model.objects import NotYet
from twinfra.compute.kubelet.model.seen import SeenPod
from twinfra.compute.kubelet.model.status import failed_status, waiting_status
from twinfra.compute.kubelet.model.volumes import carry
from twinfra.compute.kubelet.pods.objects import Objects
from twinfra.compute.kubelet.pods.record import PodRecord, Stage
from twinfra.compute.kubelet.pods.writer import StatusWriter
from twinfra.compute.kubelet.ports import Remote
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.errors import InvalidRequest, NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

Json = dict[str, Any]
IDEMPOTENT = "idempotent"
PROVIDER_FAILED = "ProviderFailed"
CONFIG_ERROR = "CreateContainerConfigError"
OPEN = frozenset({401, 408, 409, 429})
"""Refusals that say nothing about the pod: who asks, too much, or too early."""
AGAIN_S = (0.5, 15.0)
ORIGIN = "twinfra.io/virtual-node"


@dataclass(frozen=True)
class NodeView:
    """What creation knows of the node: who it is, and which extensions its site has.

    Attributes:
        origin: cluster and node, as the site keeps it to tell whose a job is.
        audience: of tokens for the site.
        host: asks for the node's own facts, as they are now.
        extensions: asks for the site's, as last told.
        root_ca: certificate authority put into pods; empty: the cluster's.
    """

    origin: str
    audience: str
    host: Callable[[], Host]
    extensions: Callable[[], frozenset[str]]
    root_ca: str = ""


class Creation:
    """The way of a pod to its site.

    Args:
        client: on the API server.
        remote: the site.
        objects: fetches what the pod names.
        writer: tells Kubernetes.
        recorder: tells people.
        node: the node's facts.
        settings: how patient.
        clock: paces.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators, given once by wiring
        self,
        client: KubeClient,
        remote: Remote,
        objects: Objects,
        writer: StatusWriter,
        recorder: EventRecorder,
        node: NodeView,
        settings: KubeletSettings,
        clock: Clock,
        hear: Callable[[PodReport], None],
        renew: Callable[[PodRecord, float], None],
    ) -> None:
        self._client, self._remote, self._objects = client, remote, objects
        self._writer, self._recorder, self._node = writer, recorder, node
        self._settings, self._clock = settings, clock
        self._hear, self._renew = hear, renew
        self._slots = asyncio.Semaphore(settings.creates)

    async def run(self, pod: PodRecord, seen: SeenPod | None) -> None:
        """Bring a pod to its site; returns when the site has it, or it has failed, or is unwanted.

        Args:
            pod: to hand over.
            seen: as the watch told it; none: it is fetched.
        """
        ready = await self._assembled(pod, seen)
        if ready is not None:
            await self._send(pod, *ready)

    async def again(self, pod: PodRecord) -> PodCreateRequest:
        """Return what would go to the site now, its tokens new.

        Raises:
            NotFound: the pod is gone.
            TwinfraError: something is missing now, or the API server is away.
        """
        return await self._request(pod, await self._body(pod, None))

    def adopt(self, pod: PodRecord, report: PodReport) -> None:
        """Go on with a pod that its site knows already."""
        pod.stage = Stage.LIVE
        pod.native_id = pod.native_id or report.native_id or pod.uid
        self._hear(report)

    async def _assembled(
        self, pod: PodRecord, seen: SeenPod | None
    ) -> tuple[PodCreateRequest, str] | None:
        """Return what goes to the site, and the proof whose it is; waits for what is missing.

        None: the pod is unwanted by now, or cannot be made.
        """
        pause_s, longest_s = self._settings.missing_s
        while not pod.unwanted:
            try:
                body = await self._body(pod, seen)
                return await self._request(pod, body), await self._proof(body)
            except NotYet as error:
                self._wait(pod, error)
            except NotFound:
                return None
            except InvalidRequest as error:
                await self._fail(pod, CONFIG_ERROR, error.detail)
                return None
            except TwinfraError as error:
                log.info("pod_waits_for_cluster", uid=pod.uid, code=error.code, why=error.detail)
            await self._clock.sleep(pause_s)
            pause_s = min(longest_s, pause_s * 1.5)
        return None

    async def _body(self, pod: PodRecord, seen: SeenPod | None) -> Json:
        """Return the pod whole, without what only its API server needs."""
        if seen is None:
            seen = await self._client.get(PODS, pod.name, pod.namespace, kind=SeenPod)
            if seen.metadata.uid != pod.uid:
                raise NotFound(f"pod {pod.name} is another one by now")
        metadata = seen.metadata
        annotations = {**(metadata.annotations or {}), ORIGIN: self._node.origin}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
                "labels": metadata.labels or {},
                "annotations": annotations,
            },
            "spec": msgspec.json.decode(seen.spec),
            "status": {"phase": "Pending"},
        }

    async def _request(self, pod: PodRecord, body: Json) -> PodCreateRequest:
        found = await self._objects.find(body)
        host = self._node.host()
        resolved = with_claims(resolve(body, found, host), found)
        tokens, renew_at_s = await self._objects.tokens(body)
        carried = carry(body, found, tokens, host, root_ca=self._node.root_ca)
        if renew_at_s is not None:
            self._renew(pod, renew_at_s)
        return PodCreateRequest(
            pod=resolved,
            config_maps=carried.config_maps,
            secrets=carried.secrets,
            projected_maps=carried.projected_maps,
        )

    async def _proof(self, body: Json) -> str:
        """Return a token of the pod's ServiceAccount for the site alone; empty: none is sent."""
        if not self._settings.pod_identity:
            return ""
        return await self._objects.identity(body, self._node.audience)

    def _wait(self, pod: PodRecord, missing: NotYet) -> None:
        """Say what a pod waits for."""
        kind = "FailedMount" if missing.volume else "Failed"
        self._recorder.warning(pod.about, kind, missing.detail)
        pod.override = waiting_status(
            pod.facts,
            pod.told,
            reason="ContainerCreating" if missing.volume else CONFIG_ERROR,
            message=missing.detail,
            address=self._node.host().address,
            now=self._clock.now(),
        )
        self._writer.put(pod)

    async def _send(self, pod: PodRecord, request: PodCreateRequest, proof: str) -> None:
        pause_s, attempts = AGAIN_S[0], 0
        while not pod.unwanted:
            attempts += 1
            try:
                await self._create(pod, request, proof)
            except TwinfraError as error:
                trouble = error
            else:
                return
            if _refused(trouble):
                pod.stage = Stage.LEFT
                await self._fail(pod, PROVIDER_FAILED, trouble.detail)
                return
            log.info("pod_creation_open", uid=pod.uid, status=trouble.status, why=trouble.detail)
            if trouble.status == 429:
                attempts -= 1
                self._recorder.warning(pod.about, "SiteFull", trouble.detail)
            elif report := await self.known(pod):
                self.adopt(pod, report)
                return
            if attempts >= self._settings.create_attempts:
                await self._fail(pod, PROVIDER_FAILED, trouble.detail)
                return
            await self._clock.sleep(trouble.retry_after_s or pause_s)
            pause_s = min(AGAIN_S[1], pause_s * 2)

    async def _create(self, pod: PodRecord, request: PodCreateRequest, proof: str) -> None:
        """Hand the pod over; its stage says so before the wire does.

        Raises:
            TwinfraError: the site's refusal, or its silence.
        """
        async with self._slots:
            if pod.unwanted:
                return
            pod.stage = Stage.SENT
            answer = await self._remote.create(request, pod_token=proof)
        pod.stage = Stage.LIVE
        pod.native_id = answer.native_id or pod.uid
        self._recorder.normal(
            pod.about, "ProviderCreateSuccess", f"the site runs it as {pod.native_id}"
        )

    async def known(self, pod: PodRecord) -> PodReport | None:
        """Return how a pod is whose creation had no answer; None: the site does not know it.

        A site that may run a pod twice is asked twice.
        """
        sure = IDEMPOTENT in self._node.extensions()
        for last in (True,) if sure else (False, True):
            found = await self._asked(pod)
            if found or last or pod.vanished:
                return found
            await self._clock.sleep(self._settings.doubt_s)
        return None

    async def _asked(self, pod: PodRecord) -> PodReport | None:
        pause_s = AGAIN_S[0]
        while True:
            try:
                reports = await self._remote.status([pod.ref()])
            except TwinfraError as error:
                log.info("pod_in_doubt", uid=pod.uid, code=error.code, why=error.detail)
                await self._clock.sleep(error.retry_after_s or pause_s)
                pause_s = min(AGAIN_S[1], pause_s * 2)
                continue
            return next((report for report in reports if report.uid == pod.uid), None)

    async def _fail(self, pod: PodRecord, reason: str, text: str) -> None:
        """Fail a pod for good, saying why."""
        kind = "ProviderCreateFailed" if reason == PROVIDER_FAILED else "Failed"
        self._recorder.warning(pod.about, kind, text)
        pod.override = failed_status(
            pod.facts,
            pod.told,
            reason=reason,
            message=text,
            address=self._node.host().address,
            now=self._clock.now(),
        )
        self._writer.put(pod)


def _refused(error: TwinfraError) -> bool:
    """Say whether an answer is a refusal of this pod."""
    return 400 <= error.status < 500 and error.status not in OPEN
