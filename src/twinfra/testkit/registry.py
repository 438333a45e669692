"""A real image registry for tests: Debian's `docker-registry` on loopback, open or with accounts.

Source: CNCF Distribution 2.8, configuration reference; htpasswd(1); skopeo-copy(1).
"""

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from twinfra.core.tls import ServerTls
from twinfra.testkit.ports import LOOPBACK, free_port, listening
from twinfra.testkit.processes import ServerDidNotStart, running
from twinfra.testkit.servers import TRIES, find_program

PUSH_WITHIN_S = 120


@dataclass(frozen=True)
class Registry:
    """A running registry.

    Attributes:
        host: ``127.0.0.1:PORT``, as image names begin.
        users: passwords by account; none: everybody may read and write.
        cafile: of its certificate; None: it speaks plain HTTP.
    """

    host: str
    users: Mapping[str, str] = field(repr=False)
    cafile: Path | None = None

    @property
    def url(self) -> str:
        """Of its HTTP API."""
        return f"{'http' if self.cafile is None else 'https'}://{self.host}"

    def push(self, layout: Path, tag: str, name: str) -> str:
        """Copy an image from an OCI layout, as it is, with every architecture that it has.

        Args:
            layout: the folder with ``index.json``.
            tag: the image's ``org.opencontainers.image.ref.name`` there.
            name: what it is called here, as ``team/app:1``.

        Returns:
            The whole name, that a pod's ``image`` may say.

        Raises:
            AssertionError: it was not taken; the message holds what skopeo said.
        """
        whole = f"{self.host}/{name}"
        options = [f"--dest-tls-verify={'false' if self.cafile is None else 'true'}"]
        if self.cafile is not None:
            options.append(f"--dest-cert-dir={self.cafile.parent / 'trusted'}")
        if self.users:
            account, password = next(iter(self.users.items()))
            options.append(f"--dest-creds={account}:{password}")
        source = f"oci:{layout}:{tag}"
        skopeo("copy", "--all", "--preserve-digests", *options, source, f"docker://{whole}").check()
        return whole

    def pull_secret(self, name: str, *, password: str | None = None) -> dict[str, Any]:
        """Return a Kubernetes secret for ``imagePullSecrets``, of the first account.

        Args:
            name: of the secret.
            password: instead of the right one.
        """
        account, right = next(iter(self.users.items()))
        given = {"username": account, "password": password or right}
        pair = f"{account}:{given['password']}"
        given["auth"] = base64.b64encode(pair.encode()).decode()
        config = {"auths": {self.host: given}}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps(config)},
        }


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    argv: list[str]
    code: int
    stdout: str
    stderr: str

    def check(self) -> "Said":
        """Return this where the command succeeded; else AssertionError."""
        assert self.code == 0, f"skopeo {self.argv[2]}: {self.stderr[-2000:]}"
        return self


def skopeo(*args: str) -> Said:
    """Run skopeo to its end; it trusts any signature."""
    argv = [find_program("skopeo", "skopeo"), "--insecure-policy", *args]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PUSH_WITHIN_S,
        check=False,
    )  # fmt: skip
    return Said(argv, done.returncode, done.stdout, done.stderr)


@contextmanager
def registry(
    folder: Path, users: Mapping[str, str] | None = None, *, tls: ServerTls | None = None
) -> Iterator[Registry]:
    """Run a registry until the block ends.

    Args:
        folder: an existing one, for its configuration, images and log.
        users: passwords by account; who has none is refused. None: everybody may.
        tls: serve over HTTPS with these files, else over plain HTTP.

    Raises:
        ServerDidNotStart: with the end of its log.
    """
    program = find_program("docker-registry", "docker-registry")
    for attempt in range(TRIES):
        port = free_port()
        config = folder / "registry.yml"
        config.write_text(yaml.safe_dump(_configuration(folder, port, users, tls)))
        log, ready = folder / "registry.log", partial(listening, port)
        try:
            with running([program, "serve", config], log=log, ready=ready):
                cafile = _trusted(tls) if tls else None
                yield Registry(f"{LOOPBACK}:{port}", dict(users or {}), cafile)
                return
        except ServerDidNotStart:
            if attempt == TRIES - 1:
                raise


def _configuration(
    folder: Path, port: int, users: Mapping[str, str] | None, tls: ServerTls | None
) -> dict[str, Any]:
    http: dict[str, Any] = {"addr": f"{LOOPBACK}:{port}", "secret": "for-a-test"}
    if tls is not None:
        http["tls"] = {"certificate": str(tls.certfile), "key": str(tls.keyfile)}
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "images")},
            "delete": {"enabled": True},
        },
        "http": http,
    }
    if users:
        file = folder / "htpasswd"
        file.write_text("".join(_account(*each) for each in users.items()), encoding="utf-8")
        config["auth"] = {"htpasswd": {"realm": "twinfra tests", "path": str(file)}}
    return config


def _account(name: str, password: str) -> str:
    """Return a line of the registry's password file; it takes bcrypt only."""
    argv = [find_program("htpasswd", "apache2-utils"), "-n", "-i", "-B", "-C", "4", name]
    done = subprocess.run(
        argv, input=password, capture_output=True, text=True, timeout=30, check=True
    )
    return f"{done.stdout.strip()}\n"


def _trusted(tls: ServerTls) -> Path:
    """Return the authority's certificate, with a folder beside it as skopeo wants one."""
    place = tls.cafile.parent / "trusted"
    place.mkdir(exist_ok=True)
    (place / "ca.crt").write_bytes(tls.cafile.read_bytes())
    return tls.cafile
