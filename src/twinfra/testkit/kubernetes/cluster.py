"""What a test may ask of any cluster: kubectl, a namespace of its own, a person's kubeconfig."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from twinfra.core.ids import new_uuid
from twinfra.testkit.certificates import private_pem
from twinfra.testkit.waiting import wait_for_sync

KUBECTL_WITHIN_S = 120.0
READY_WITHIN_S = 240.0


class Cluster:
    """A cluster that answers, seen by its administrator.

    Args:
        kubeconfig: of the administrator; its current context counts.
        folder: for kubectl's cache and for what is made here.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self.folder = folder
        shown = self.kubectl_json("config", "view", "--minify", "--flatten", "--raw")
        server = shown["clusters"][0]["cluster"]
        self.url: str = server["server"]
        self.ca = folder / "cluster-ca.pem"
        self.ca.write_bytes(base64.b64decode(server.get("certificate-authority-data", "")))

    @property
    def environment(self) -> dict[str, str]:
        """What a child needs to use this cluster: our environment, kubeconfig and own cache."""
        return {
            **os.environ,  # noqa: TID251 - a child inherits ours
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
        }

    def kubectl_command(self, *args: str, kubeconfig: Path | None = None) -> list[str]:
        """Return the argument list of a kubectl, for tests that start it themselves."""
        program = Path(sys.executable).with_name("kubectl")
        assert program.exists(), "kubectl is missing: run make install"
        return [str(program), f"--kubeconfig={kubeconfig or self.kubeconfig}", *args]

    def kubectl(
        self,
        *args: str,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        check: bool = True,
        timeout_s: float = KUBECTL_WITHIN_S,
    ) -> "subprocess.CompletedProcess[str]":
        """Run kubectl to its end.

        Args:
            args: its arguments.
            stdin: what it reads, for ``-f -``.
            kubeconfig: of somebody else than the administrator.
            check: a failure is an error.
            timeout_s: then it is killed, and that is an error.

        Raises:
            AssertionError: it failed, and `check`; the message holds what it said.
        """
        given: dict[str, Any] = (
            {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        )
        done = subprocess.run(
            self.kubectl_command(*args, kubeconfig=kubeconfig),
            env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False,
            **given,
        )  # fmt: skip
        said = f"kubectl {' '.join(args)}: exit {done.returncode}: {done.stderr[-2000:]}"
        assert done.returncode == 0 or not check, said
        return done

    def kubectl_json(self, *args: str, kubeconfig: Path | None = None) -> Any:
        """Return what a kubectl command prints with ``-o json``."""
        return json.loads(self.kubectl(*args, "-o", "json", kubeconfig=kubeconfig).stdout)

    def apply(self, *objects: Mapping[str, Any], namespace: str | None = None) -> None:
        """Apply `objects`, as ``kubectl apply -f -`` does."""
        where = ["-n", namespace] if namespace else []
        documents = "\n---\n".join(json.dumps(dict(each)) for each in objects)
        self.kubectl("apply", *where, "-f", "-", stdin=documents)

    def wait_ready(self) -> None:
        """Return when the API server says that it is ready."""
        wait_for_sync(
            lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0,
            timeout_s=READY_WITHIN_S,
            what="the API server",
        )

    def namespace(self, labels: Mapping[str, str] | None = None) -> str:
        """Return a new namespace with its default service account in place."""
        name = f"test-{new_uuid()[-12:]}"
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = (
            "get",
            "serviceaccount",
            "default",
            "-n",
            name,
            "--ignore-not-found",
            "-o",
            "name",
        )
        wait_for_sync(
            lambda: self.kubectl(*account).stdout,
            timeout_s=READY_WITHIN_S,
            what=f"the default service account of {name}",
        )
        return name

    def delete_namespace(self, name: str) -> None:
        """Begin to delete a namespace with all in it; its pods go at once, with no node's word."""
        pods = ("delete", "pods", "--all", "-n", name, "--force", "--grace-period=0")
        self.kubectl(*pods, "--wait=false", check=False)
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found", check=False)

    def token(
        self,
        namespace: str,
        account: str = "default",
        *,
        audiences: Sequence[str] = (),
        duration_s: int = 3600,
    ) -> str:
        """Return a new token of a service account, as TokenRequest gives it."""
        wanted = [f"--audience={each}" for each in audiences]
        args = ("create", "token", account, "-n", namespace, f"--duration={duration_s}s", *wanted)
        return self.kubectl(*args).stdout.strip()

    def user_kubeconfig(self, name: str, groups: Sequence[str] = ()) -> Path:
        """Return the kubeconfig of a person, with a client certificate of the cluster's.

        It gives no rights: bind a role to the name or to a group. A node's name is
        ``system:node:NAME`` with the group ``system:nodes``.
        """
        node = "system:nodes" in groups
        signer = "kubernetes.io/kube-apiserver-client" + ("-kubelet" if node else "")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
        asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
        pem = asked.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        request = f"test-{new_uuid()[-12:]}"
        spec = {
            "request": base64.b64encode(pem).decode(),
            "signerName": signer,
            "usages": ["digital signature", "client auth"],
        }
        kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        self.apply({**kind, "metadata": {"name": request}, "spec": spec})
        self.kubectl("certificate", "approve", request)
        path = "jsonpath={.status.certificate}"
        certificate = wait_for_sync(
            lambda: self.kubectl("get", "csr", request, "-o", path).stdout,
            timeout_s=READY_WITHIN_S,
            what=f"the certificate of {name}",
        )
        return self.write_kubeconfig(name, base64.b64decode(certificate), private_pem(key))

    def write_kubeconfig(self, name: str, certificate: bytes, key: bytes) -> Path:
        """Write the kubeconfig of whoever has this client certificate and key, both PEM."""
        user = {
            "client-certificate-data": base64.b64encode(certificate).decode(),
            "client-key-data": base64.b64encode(key).decode(),
        }
        stem = name.replace("/", "_").replace(":", "_")
        return write_kubeconfig(self.folder / f"{stem}.kubeconfig", self.url, self.ca, user)

    def token_kubeconfig(self, name: str, token: str) -> Path:
        """Write the kubeconfig of whoever has this bearer token."""
        return write_kubeconfig(
            self.folder / f"{name}.kubeconfig", self.url, self.ca, {"token": token}
        )


def write_kubeconfig(path: Path, url: str, ca: Path, user: Mapping[str, str]) -> Path:
    """Write a kubeconfig of one cluster, one user and one context; readable by us alone."""
    authority = ca.read_bytes()
    cluster = {"server": url}
    if authority:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
