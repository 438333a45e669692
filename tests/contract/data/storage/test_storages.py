"""Every adapter of `Storage` passes the same suite."""

import pytest

from twinfra.core.tls import server_tls
from twinfra.data.storage.client import LocalStorage, WebDavStorage
from twinfra.testkit.edges import edges
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.storage_contract import StorageContract


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return server_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def issuer():
    with TestIssuer() as made:
        yield made


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path) -> LocalStorage:
        return LocalStorage(tmp_path)


class TestWebDavStorageOnOurEdge(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path, tls, issuer):
        async with edges(["one"], tmp_path, issuer, tls=tls) as (edge,):

            async def token() -> str:
                return edge.token()

            made = WebDavStorage(edge.dav, tls=edge.client_tls(), token=token)
            yield made
            await made.close()
