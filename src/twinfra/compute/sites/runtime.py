"""Chooses how a site runs containers, by its settings and by what this machine allows."""

from dataclasses import dataclass, replace
from pathlib import Path

from twinfra.compute.containers.bubblewrap import BubblewrapRuntime
from twinfra.compute.containers.choose import choose_runtime
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.containers.model import ContainerSpec, Isolation
from twinfra.compute.containers.ports import ContainerRuntime
from twinfra.compute.containers.proot import ProotRuntime
from twinfra.compute.containers.uplink import find_uplink
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.sites.settings import ComputeSettings
from twinfra.core.errors import SiteRejected


@dataclass
class NoRuntime:
    """Stands where no container runtime works: every pod is refused, with the reason."""

    why: str
    fix: str = ""
    name: str = "none"

    def probe(self) -> Isolation:
        """Say that nothing works here."""
        return Isolation(self.name, False, False, self.why, self.fix)

    def launch(self, spec: ContainerSpec) -> Launch:
        """Refuse.

        Raises:
            SiteRejected: always.
        """
        del spec
        raise SiteRejected(f"this site cannot run containers: {self.why}")


def choose_ground(settings: ComputeSettings, jobs: Path | None = None) -> tuple[Ground, Isolation]:
    """Return how containers are run here, and what that runtime can do; blocks while it tries.

    Args:
        settings: of the site.
        jobs: the folder of its jobs, where containers' layers will be; none: there are no layers.

    Where it cannot isolate, the answer says why, with the one-line fix of the better runtime that
    was passed over; the same where no runtime works.
    """
    here = settings.backend == "local"  # of other machines this one can prove nothing
    layers = jobs if settings.writable_root and here else None
    known: dict[str, list[ContainerRuntime]] = {
        "auto": [BubblewrapRuntime(layers=layers), ProotRuntime()],
        "bubblewrap": [BubblewrapRuntime(layers=layers)],
        "proot": [ProotRuntime()],
    }
    chosen, said = choose_runtime(known[settings.runtime])
    if chosen is None:
        why = "; ".join(f"{answer.runtime}: {answer.why_not}" for answer in said)
        none = NoRuntime(why, fix=said[0].fix)
        return _ground(none, settings, isolated=False), none.probe()
    isolation = said[-1]
    if not isolation.isolated and len(said) > 1:
        isolation = replace(isolation, why_not=said[0].why_not, fix=said[0].fix)
    return _ground(chosen, settings, isolated=isolation.isolated), isolation


def _ground(runtime: ContainerRuntime, settings: ComputeSettings, *, isolated: bool) -> Ground:
    uplink = find_uplink() if settings.network == "private" else ()
    network = "none" if settings.network == "private" and not uplink else settings.network
    return Ground(runtime, isolated, network, settings.wall_limit_s, uplink)
