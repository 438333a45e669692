"""Two edges over TLS that know each other, and what strangers' clients need to speak to them."""

import asyncio
import io
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from twinfra.core.tls import ServerTls, server_tls
from twinfra.testkit.edges import EdgeUnderTest, KnownPeers, edges
from twinfra.testkit.issuer import TestIssuer


@pytest.fixture(scope="session")
def tls(tmp_path_factory) -> ServerTls:
    return server_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def issuer() -> Iterator[TestIssuer]:
    with TestIssuer() as made:
        yield made


@pytest.fixture
def peers() -> KnownPeers:
    return KnownPeers()


@pytest.fixture
async def pair(tmp_path, issuer, tls, peers) -> AsyncIterator[list[EdgeUnderTest]]:
    async with edges(["left", "right"], tmp_path, issuer, tls=tls, peers=peers) as made:
        yield made


@pytest.fixture
async def edge(tmp_path, issuer, tls, peers) -> AsyncIterator[EdgeUnderTest]:
    async with edges(["left"], tmp_path, issuer, tls=tls, peers=peers) as made:
        yield made[0]


@dataclass
class Answer:
    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Http:
    """A client that sends exactly what it is told."""

    def __init__(self, edge: EdgeUnderTest, session: aiohttp.ClientSession) -> None:
        self.edge, self.session = edge, session
        self.token = edge.token()

    async def __call__(self, method, path, *, token=None, data=None, url=None, **headers) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        bearer = self.token if token is None else token
        if bearer:
            sent.setdefault("Authorization", f"Bearer {bearer}")
        target = url or self.edge.dav + path
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        async with self.session.request(
            method, target, headers=sent, data=data, allow_redirects=False
        ) as answer:
            return Answer(answer.status, answer.headers.copy(), await answer.read())


@pytest.fixture
async def http(edge) -> AsyncIterator[Http]:
    connector = aiohttp.TCPConnector(ssl=edge.client_tls())
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield Http(edge, session)


@pytest.fixture
async def pair_http(pair) -> AsyncIterator[list[Http]]:
    connector = aiohttp.TCPConnector(ssl=pair[0].client_tls())
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield [Http(one, session) for one in pair]


@dataclass
class Ran:
    code: int
    out: str
    err: str


class Strangers:
    """Runs other people's clients, with the authority in the forms that they want."""

    def __init__(self, folder: Path, tls: ServerTls) -> None:
        self.folder, self.tls = folder, tls
        self.certs = folder / "certs"
        self.certs.mkdir()
        hashed = subprocess.run(
            ["openssl", "x509", "-hash", "-noout", "-in", tls.cafile],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        shutil.copy(tls.cafile, self.certs / f"{hashed}.0")

    async def run(self, *argv, token=None, timeout_s=60) -> Ran:
        """Run one command; the token is where the WLCG tools look for it."""
        assert shutil.which(argv[0]), f"no {argv[0]} here: see requirements/debian.txt"
        environment = {
            **os.environ,
            "X509_USER_PROXY": "/nonexistent",
            "X509_CERT_DIR": str(self.certs),
            "GFAL_PYTHONBIN": "/usr/bin/python3",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
        }
        if token:
            environment["BEARER_TOKEN"] = token
        process = await asyncio.create_subprocess_exec(
            *map(str, argv),
            env=environment,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), timeout_s)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture
def strangers(tmp_path, tls) -> Strangers:
    folder = tmp_path / "strangers"
    folder.mkdir()
    return Strangers(folder, tls)
