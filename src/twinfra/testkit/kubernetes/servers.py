"""A control plane of our own: etcd, API server, controller manager and scheduler, stopped by pid.

It has no node. It must not be changed for good by a test: whoever stops the API server starts it
again, and `wait_ready` does so where a failed test did not.
"""

import base64
import hashlib
import json
import shutil
import signal
import ssl
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from twinfra.core.tls import client_context
from twinfra.testkit.certificates import KeyPair
from twinfra.testkit.kubernetes import programs
from twinfra.testkit.kubernetes.cluster import READY_WITHIN_S, Cluster
from twinfra.testkit.kubernetes.issuers import authentication_configuration
from twinfra.testkit.kubernetes.programs import Layout
from twinfra.testkit.ports import LOOPBACK, listening
from twinfra.testkit.processes import ServerDidNotStart, running
from twinfra.testkit.servers import TRIES
from twinfra.testkit.waiting import wait_for_sync

DISCOVERY_ROLE = "system:service-account-issuer-discovery"
RELOADED = "apiserver_authentication_config_controller_last_config_info"


@dataclass(frozen=True)
class Flags:
    """Further command line words, after ours: of two that contradict the last counts."""

    apiserver: Sequence[str] = ()
    controller_manager: Sequence[str] = ()
    scheduler: Sequence[str] = ()


class ControlPlane(Cluster):
    """A running control plane; `control_plane` makes it."""

    def __init__(self, at: Layout, flags: Flags) -> None:
        self._at, self._flags = at, flags
        self._tls = client_context(at.authority.cafile)
        self._running: dict[str, tuple[ExitStack, Popen[bytes]]] = {}
        admin = at.authority.issue("admin", organisations=("system:masters",))
        self.folder, self.url, self.ca = at.folder, at.url, at.authority.cafile
        super().__init__(self._write("admin", admin), at.folder)
        self._known = self._commands()

    @property
    def issuer(self) -> str:
        """The issuer of service accounts' tokens; anybody may read its discovery and its keys."""
        return self._at.url

    @property
    def tls(self) -> ssl.SSLContext:
        """A client context that believes the API server's certificate."""
        return self._tls

    @property
    def kubelet_client_ca(self) -> Path:
        """The authority of the certificate that the API server shows to kubelets."""
        return self._at.authority.cafile

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the servers that run, by the programs' names."""
        alive = {name: process for name, (_, process) in self._running.items()}
        return {name: each.pid for name, each in alive.items() if each.poll() is None}

    def log(self, name: str) -> str:
        """Return what a server has written, by its program's name."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def kubelet_serving(self, node: str) -> KeyPair:
        """Return a certificate for a node's kubelet that the API server believes."""
        return self._at.authority.issue(
            f"system:node:{node}",
            organisations=("system:nodes",),
            hosts=(LOOPBACK, "localhost"),
            file=f"kubelet-{node}",
        )

    def user_kubeconfig(self, name: str, groups: Sequence[str] = ()) -> Path:
        """Do as `Cluster.user_kubeconfig`, signed here and now."""
        return self._write(name, self._at.authority.issue(name, organisations=tuple(groups)))

    def trust_issuers(self, *issuers: dict[str, Any]) -> None:
        """Make the API server trust exactly these outside issuers; it does on return.

        It remembers for ten seconds whose token it took: one no longer trusted may pass so long.

        Args:
            issuers: as `outside_issuer` makes them; none: no outside issuer.

        Raises:
            AssertionError: it did not take them; the end of its log says why.
        """
        text = json.dumps(authentication_configuration(issuers))
        half = self._at.authentication.with_suffix(".new")
        half.write_text(text, encoding="utf-8")
        half.replace(self._at.authentication)
        digest = hashlib.sha256(text.encode()).hexdigest()

        def reloaded() -> bool:
            metrics = self.kubectl("get", "--raw", "/metrics").stdout.splitlines()
            return any(line.startswith(RELOADED) and digest in line for line in metrics)

        try:
            wait_for_sync(reloaded, timeout_s=READY_WITHIN_S, what="the new issuers")
        except AssertionError as error:
            raise AssertionError(self.log("kube-apiserver")[-3000:]) from error

    def start(self) -> None:
        """Start every server; all are ready on return."""
        for name in ("etcd", "kube-apiserver"):
            self._start(name)
        groups = ("--group=system:unauthenticated", "--group=system:authenticated")
        binding = ("clusterrolebinding", "test:issuer-discovery", f"--clusterrole={DISCOVERY_ROLE}")
        self.kubectl("create", *binding, *groups)
        self.wait_ready()

    def stop(self) -> None:
        """Stop every server that runs, the last started first."""
        for name in reversed(list(self._running)):
            self._stop(name)

    def start_apiserver(self) -> None:
        """Start the API server, at the same URL and on the same data; it is ready on return."""
        self._start("kube-apiserver")

    def kill_apiserver(self) -> None:
        """Kill the API server as SIGKILL does; it stays away until it is started again."""
        self._stop("kube-apiserver")
        wait_for_sync(lambda: not listening(self._at.port), timeout_s=READY_WITHIN_S)

    def restart_apiserver(self) -> None:
        """Kill the API server and start it again; watches are cut, meanwhile nobody answers.

        It is not asked to end: it would wait a minute for the watches of others.
        """
        self.kill_apiserver()
        self.start_apiserver()

    def compact_etcd(self) -> int:
        """Forget etcd's history; gives the revision, whose predecessors are gone.

        A running API server still serves watches from its own memory: see `forget_history`.
        """
        found = self._etcd("range", {"key": base64.b64encode(b"/").decode(), "limit": 1})
        revision = int(found["header"]["revision"])
        self._etcd("compaction", {"revision": revision, "physical": True})
        return revision

    def forget_history(self) -> int:
        """Compact etcd and restart the API server: a watch or a page from before gets 410 Gone."""
        # the server's memory begins at the revision of its start: one write sets the past apart
        self.kubectl("create", "namespace", f"test-history-{self._at.port}", check=False)
        self.kubectl("label", "--overwrite", "namespace", f"test-history-{self._at.port}", "x=1")
        self.kubectl("label", "namespace", f"test-history-{self._at.port}", "x-")
        revision = self.compact_etcd()
        self.restart_apiserver()
        return revision

    def wait_ready(self) -> None:
        """Return when every server answers; dead ones are started first.

        The controller manager ends by itself when the API server is away while it starts; it is
        taken for ready when accounts come into namespaces.
        """
        for name in self._known:
            if name not in self.pids:
                self._stop(name)
                self._start(name)
        super().wait_ready()
        account = ("get", "serviceaccount", "default", "-n", "default")
        wait_for_sync(
            lambda: self.kubectl(*account, check=False).returncode == 0,
            timeout_s=READY_WITHIN_S,
            what="the controller manager",
        )

    def _commands(self) -> dict[str, tuple[list[str], str]]:
        """Return each server's command and the address that says whether it is ready."""
        at, flags = self._at, self._flags
        manager = self.user_kubeconfig("system:kube-controller-manager")
        scheduler = self.user_kubeconfig("system:kube-scheduler")
        return {
            "etcd": (programs.etcd(at), f"{at.etcd_url}/health"),
            "kube-apiserver": ([*programs.apiserver(at), *flags.apiserver], f"{at.url}/readyz"),
            "kube-controller-manager": (
                [*programs.controller_manager(at, manager), *flags.controller_manager],
                f"https://{LOOPBACK}:{at.manager_port}/healthz",
            ),
            "kube-scheduler": (
                [*programs.scheduler(at, scheduler), *flags.scheduler],
                f"https://{LOOPBACK}:{at.scheduler_port}/readyz",
            ),
        }

    def _write(self, name: str, pair: KeyPair) -> Path:
        return self.write_kubeconfig(name, pair.certfile.read_bytes(), pair.keyfile.read_bytes())

    def _start(self, name: str) -> None:
        argv, address = self._known[name]
        stack = ExitStack()
        server = running(
            argv,
            log=self.folder / f"{name}.log",
            ready=partial(self._answers, address),
            timeout_s=READY_WITHIN_S,
            stop_signal=signal.SIGKILL,
        )
        self._running[name] = (stack, stack.enter_context(server))

    def _stop(self, name: str) -> None:
        if name in self._running:
            self._running.pop(name)[0].close()

    def _answers(self, url: str) -> bool:
        tls = self._tls if url.startswith("https") else None
        try:
            with urllib.request.urlopen(url, timeout=5, context=tls) as answer:  # noqa: S310 - our own servers
                return bool(answer.status == 200)
        except OSError:
            return False

    def _etcd(self, call: str, body: dict[str, Any]) -> Any:
        """Call etcd's key-value service through its JSON gateway."""
        request = urllib.request.Request(  # noqa: S310 - our own servers
            f"{self._at.etcd_url}/v3/kv/{call}", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own servers
            return json.load(answer)


@contextmanager
def control_plane(folder: Path, flags: Flags | None = None) -> Iterator[ControlPlane]:
    """Run a control plane below `folder`, an empty one, until the block ends.

    A port that somebody else took meanwhile makes it try again with others.

    Raises:
        ServerDidNotStart: with the end of the server's log.
        AssertionError: a program is missing; says what to install or to run.
    """
    for attempt in range(TRIES):
        place = folder / f"control-plane{attempt}"
        place.mkdir()
        made = ControlPlane(_layout(place), flags or Flags())
        try:
            try:
                made.start()
            except ServerDidNotStart:
                if attempt == TRIES - 1:
                    raise
                continue
            yield made
            return
        finally:
            made.stop()
            shutil.rmtree(place / "etcd", ignore_errors=True)


def _layout(folder: Path) -> Layout:
    at = Layout.below(folder)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    at.account_key.touch(mode=0o600)
    at.account_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    at.authentication.write_text(json.dumps(authentication_configuration([])), encoding="utf-8")
    return at
