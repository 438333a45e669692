"""A real Kubernetes for tests: etcd and three servers on loopback, or another cluster.

`scripts/build-kubernetes` makes the servers; ``docs/howto/run-the-tests.md`` says the rest.
"""

from twinfra.testkit.kubernetes.cluster import Cluster
from twinfra.testkit.kubernetes.issuers import outside_issuer
from twinfra.testkit.kubernetes.servers import ControlPlane, control_plane

__all__ = ["Cluster", "ControlPlane", "control_plane", "outside_issuer"]
