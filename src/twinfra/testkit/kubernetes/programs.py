"""The servers' programs and their command lines; every listener is on loopback.

Source: each program's ``--help`` of Kubernetes 1.36; etcd(1) of etcd 3.4.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from twinfra.core.settings import cache_folder
from twinfra.testkit.certificates import Authority, KeyPair
from twinfra.testkit.ports import LOOPBACK, free_port
from twinfra.testkit.servers import find_program

SERVICE_RANGE = "10.0.0.0/24"
# what needs a cloud or gives nodes addresses has no work here
CONTROLLERS = (
    "*,-node-ipam-controller,-node-route-controller,-service-lb-controller"
    ",-cloud-node-lifecycle-controller"
)
API_SERVER_HOSTS = (LOOPBACK, "localhost", "kubernetes.default.svc")


def kubernetes_programs() -> Path:
    """Return the folder of kube-apiserver, kube-controller-manager and kube-scheduler.

    Raises:
        AssertionError: they were not built; says how.
    """
    sums = Path(__file__).parents[4] / "tests" / "servers" / "kubernetes" / "go.sum"
    place = cache_folder() / "kubernetes" / hashlib.sha256(sums.read_bytes()).hexdigest()[:16]
    assert place.is_dir(), "the Kubernetes servers are not built: run scripts/build-kubernetes"
    return place


@dataclass(frozen=True)
class Layout:
    """Where the files and the doors of one control plane are."""

    folder: Path
    authority: Authority
    serving: KeyPair
    kubelet_client: KeyPair
    account_key: Path
    authentication: Path
    etcd_port: int
    peer_port: int
    port: int
    manager_port: int
    scheduler_port: int

    @classmethod
    def below(cls, folder: Path) -> "Layout":
        """Make the certificates and keys of a control plane; its ports are free now."""
        pki = folder / "pki"
        pki.mkdir(exist_ok=True)
        authority = Authority.below(pki)
        return cls(
            folder=folder,
            authority=authority,
            serving=authority.issue("kube-apiserver", hosts=API_SERVER_HOSTS),
            kubelet_client=authority.issue(
                "kube-apiserver-kubelet-client", organisations=("system:masters",)
            ),
            account_key=pki / "service-accounts.key",
            authentication=folder / "authentication.json",
            etcd_port=free_port(),
            peer_port=free_port(),
            port=free_port(),
            manager_port=free_port(),
            scheduler_port=free_port(),
        )

    @property
    def url(self) -> str:
        """Of the API server; also the issuer of service accounts' tokens."""
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def etcd_url(self) -> str:
        """Of etcd's clients."""
        return f"http://{LOOPBACK}:{self.etcd_port}"


def etcd(at: Layout) -> list[str]:
    """Return etcd's command: its data below our folder, nothing waits for the disk."""
    peer = f"http://{LOOPBACK}:{at.peer_port}"
    return [
        find_program("etcd", "etcd-server"), "--name=default", f"--data-dir={at.folder / 'etcd'}",
        f"--listen-client-urls={at.etcd_url}", f"--advertise-client-urls={at.etcd_url}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}", "--unsafe-no-fsync", "--log-level=warn",
    ]  # fmt: skip


def apiserver(at: Layout) -> list[str]:
    """Return the API server's command.

    It reaches kubelets by their node's InternalIP, shows them a client certificate of our authority
    and believes certificates of that authority alone; it takes client certificates of it, tokens of
    its own service accounts and of the issuers that the authentication file names.
    """
    return [
        str(kubernetes_programs() / "kube-apiserver"), f"--etcd-servers={at.etcd_url}",
        f"--bind-address={LOOPBACK}", f"--advertise-address={LOOPBACK}", f"--secure-port={at.port}",
        f"--tls-cert-file={at.serving.certfile}", f"--tls-private-key-file={at.serving.keyfile}",
        f"--client-ca-file={at.authority.cafile}", f"--authentication-config={at.authentication}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        f"--service-account-issuer={at.url}", f"--service-account-jwks-uri={at.url}/openid/v1/jwks",
        f"--service-account-key-file={at.account_key}",
        f"--service-account-signing-key-file={at.account_key}",
        f"--kubelet-client-certificate={at.kubelet_client.certfile}",
        f"--kubelet-client-key={at.kubelet_client.keyfile}",
        f"--kubelet-certificate-authority={at.authority.cafile}",
        "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true",
        f"--service-cluster-ip-range={SERVICE_RANGE}", "--endpoint-reconciler-type=none",
        f"--cert-dir={at.folder / 'apiserver'}",
    ]  # fmt: skip


def controller_manager(at: Layout, kubeconfig: Path) -> list[str]:
    """Return the controller manager's command; it signs certificate requests by our authority."""
    return [
        str(kubernetes_programs() / "kube-controller-manager"),
        *_component(at, kubeconfig, at.manager_port), f"--controllers={CONTROLLERS}",
        f"--service-account-private-key-file={at.account_key}",
        "--use-service-account-credentials=true", f"--root-ca-file={at.authority.cafile}",
        f"--cluster-signing-cert-file={at.authority.cafile}",
        f"--cluster-signing-key-file={at.authority.keyfile}",
    ]  # fmt: skip


def scheduler(at: Layout, kubeconfig: Path) -> list[str]:
    """Return the scheduler's command."""
    return [
        str(kubernetes_programs() / "kube-scheduler"),
        *_component(at, kubeconfig, at.scheduler_port),
    ]


def _component(at: Layout, kubeconfig: Path, port: int) -> list[str]:
    """Return what both share; unless told, they would listen on every interface."""
    return [
        f"--kubeconfig={kubeconfig}", f"--bind-address={LOOPBACK}", f"--secure-port={port}",
        f"--tls-cert-file={at.serving.certfile}", f"--tls-private-key-file={at.serving.keyfile}",
        "--leader-elect=false",
    ]  # fmt: skip
