"""The seam between a site and the container runtimes: one file each beside this one."""

from typing import Protocol

from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.containers.model import ContainerSpec, Isolation


class ContainerRuntime(Protocol):
    """A way to start a process within an unpacked image."""

    name: str

    def probe(self) -> Isolation:
        """Try, on this machine and as this user, what the runtime needs.

        Never raises; a runtime that cannot work says why. The answer may be cached by the caller.
        """
        ...

    def launch(self, spec: ContainerSpec) -> Launch:
        """Return how the keeper starts the container; starts nothing.

        Command, environment and paths arrive in the container byte for byte, never through a shell.

        Raises:
            InvalidRequest: the spec holds what no process can be given.
            NotFound: the root file system is not there.
        """
        ...
