"""Chooses the container runtime of this machine: isolated if possible, else by tracing.

It must not remember: callers probe once at start and keep the answer.
"""

from collections.abc import Sequence

from twinfra.compute.containers.bubblewrap import BubblewrapRuntime
from twinfra.compute.containers.model import Isolation
from twinfra.compute.containers.ports import ContainerRuntime
from twinfra.compute.containers.proot import ProotRuntime


def choose_runtime(
    candidates: Sequence[ContainerRuntime] | None = None,
) -> tuple[ContainerRuntime | None, tuple[Isolation, ...]]:
    """Return the first runtime that works here, and what each candidate tried said.

    The answers also say why a better one was passed over, with its one-line fix. Blocks for up to
    some tenths of a second: run it in a thread.
    """
    said: list[Isolation] = []
    for runtime in candidates or (BubblewrapRuntime(), ProotRuntime()):
        answer = runtime.probe()
        said.append(answer)
        if answer.available:
            return runtime, tuple(said)
    return None, tuple(said)
