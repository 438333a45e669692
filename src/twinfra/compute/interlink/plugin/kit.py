"""What a pod's life happens on: one site, with all that it offers pods."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from twinfra.compute.interlink.model.create import RetrievedPodData
from twinfra.compute.interlink.model.reading import Json
from twinfra.compute.interlink.plugin.model import KeptPod, claims_folder
from twinfra.compute.interlink.plugin.ports import Images, Inputs, Outputs, UsageBook
from twinfra.compute.interlink.pods.places import Places
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.pods.read import Defaults, read_pod
from twinfra.compute.interlink.pods.request import PodRequest
from twinfra.compute.interlink.pods.rules import Rules
from twinfra.compute.interlink.settings import PluginSettings
from twinfra.compute.sites.ports import Site
from twinfra.core.time import Clock

REQUESTS_KNOWN = 512


@dataclass(frozen=True)
class SiteKit:
    """What a pod's life happens on.

    Attributes:
        name: of the site.
        site: its back end.
        ground: how its containers are run.
        images: its images.
        inputs: bring data in.
        outputs: bring data out.
        usage: makes usage records.
        jobs: the folder of all pods' folders.
        settings: of the plug-in.
        clock: tells the moment.
        rules: what pods may have of the site's own.
    """

    name: str
    site: Site
    ground: Ground
    images: Images
    inputs: Inputs
    outputs: Outputs
    usage: UsageBook
    jobs: Path
    settings: PluginSettings
    clock: Clock
    rules: Rules = field(default_factory=Rules)
    _read: "OrderedDict[str, tuple[Json, PodRequest]]" = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def request(self, pod: KeptPod) -> PodRequest:
        """Return what a pod asks for, read from what came; what was read lately is known."""
        body, request = self._read.pop(pod.work, (None, None))
        if request is None or body != pod.body:
            request = self.read(RetrievedPodData.from_wire(pod.body))
        self._read[pod.work] = pod.body, request
        if len(self._read) > REQUESTS_KNOWN:
            self._read.popitem(last=False)
        return request

    def read(self, data: RetrievedPodData) -> PodRequest:
        """Return what a pod asks for; raises as `read_pod`."""
        defaults = Defaults(self.settings.default_cpus, self.settings.default_memory_bytes)
        return read_pod(data, defaults, self.rules)

    def places(self, pod: KeptPod) -> Places:
        """Return the folders of a pod's present attempt."""
        return Places(self.jobs / pod.uid, pod.attempt, claims_folder(pod))
