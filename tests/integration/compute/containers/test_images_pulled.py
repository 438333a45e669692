"""Images pulled from Debian's own registry, open or with accounts, over HTTP and HTTPS."""

import base64
import json
import ssl

import pytest

from twinfra.compute.containers.images.names import Credential, Names, credentials_of
from twinfra.compute.containers.images.pulling import PENDING, PullingStore
from twinfra.compute.containers.images.registry import RegistryPull
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.containers.machine import architecture
from twinfra.core.errors import InsufficientScope, NotFound, SiteRejected, Unavailable
from twinfra.testkit.images import BUSYBOX, busybox_image, image_for
from twinfra.testkit.registry import registry


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pushed")
    work = folder / "busybox"
    work.mkdir()
    busybox_image(folder / "layout", work)
    return folder / "layout"


def store(folder, names, **more):
    pulled = folder / "pulled"
    return PullingStore(ImageStore([pulled], folder / "unpacked"), pulled, names, **more)


@pytest.mark.real("docker-registry")
@pytest.mark.story("the site maps their image names to images built here")
def test_an_unchanged_name_is_pulled_from_where_the_site_says(tmp_path, layout):
    with registry(tmp_path) as server:
        server.push(layout, BUSYBOX, "mirror/library/python:3.12")
        mapped = {"docker.io/": f"{server.host}/mirror/"}
        images = store(tmp_path, Names(mapped, frozenset({server.host})),
                       plain=frozenset({server.host}))  # fmt: skip
        assert images.resolve("python:3.12") == PENDING
        image = images.ensure("python:3.12")
        assert (image.rootfs / "bin" / "busybox").exists()
        assert images.resolve("python:3.12") == image.digest
        assert images.ensure("python:3.12", policy="Always").digest == image.digest
        with pytest.raises(NotFound):
            images.ensure("python:none")
        with pytest.raises(NotFound):
            images.resolve("quay.io/other/image")
    # What was pulled stays when the registry is gone.
    assert images.ensure("python:3.12").digest == image.digest


@pytest.mark.real("docker-registry")
@pytest.mark.story("imagePullSecrets (Debian's `docker-registry` as the private registry)")
def test_a_private_image_is_pulled_with_the_pods_own_account_only(tmp_path, layout):
    with registry(tmp_path, {"alice": "s3cret"}) as server:
        name = server.push(layout, BUSYBOX, "team/app:1")
        names = Names(registries=frozenset({server.host}))
        images = store(tmp_path, names, plain=frozenset({server.host}))
        with pytest.raises(InsufficientScope):
            images.ensure(name)
        with pytest.raises(InsufficientScope):
            images.ensure(name, credentials_of(server.pull_secret("s", password="wrong")))
        image = images.ensure(name, credentials_of(server.pull_secret("s")))
        assert (image.rootfs / "bin" / "busybox").exists()


@pytest.mark.real("docker-registry")
def test_a_registry_is_checked_when_it_speaks_tls(tmp_path, layout, context):
    tls = context.tls_server()
    with registry(tmp_path, tls=tls) as server:
        name = server.push(layout, BUSYBOX, "team/app:1").replace("127.0.0.1", "localhost")
        names = Names(registries=frozenset({name.partition("/")[0]}))
        trusted = ssl.create_default_context(cafile=str(tls.cafile))
        assert store(tmp_path, names, tls=trusted).ensure(name).digest


def test_names_are_whole_and_mapped_by_the_longest_beginning():
    names = Names({"docker.io/": "m/", "docker.io/library/python": "own/py", "app": "x"})
    mapped = {"python:3": "own/py:3", "a/b": "m/a/b", "pythonic": "m/library/pythonic",
              "app:1": "x:1", "quay.io/a/b": "quay.io/a/b"}  # fmt: skip
    for given, meant in mapped.items():
        assert next(names.candidates(given)) == meant


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io"])
def test_accounts_are_read_as_docker_writes_them(key):
    pair = base64.b64encode(b"alice:a:b").decode()
    config = base64.b64encode(json.dumps({"auths": {key: {"auth": pair}}}).encode()).decode()
    found = credentials_of({"data": {".dockerconfigjson": config}})
    assert found == {"docker.io": Credential("alice", "a:b")}
    assert "a:b" not in repr(found)


@pytest.mark.parametrize("value", ["", "!", "bm8=", base64.b64encode(b"[1]").decode()])
def test_a_secret_without_accounts_is_refused(value):
    from twinfra.core.errors import InvalidRequest

    with pytest.raises(InvalidRequest):
        credentials_of({"data": {".dockerconfigjson": value}})


def test_a_lying_registry_is_not_believed(tmp_path):
    import hashlib
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    digest = "sha256:" + hashlib.sha256(b"promised").hexdigest()
    part = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 8}
    manifest = json.dumps({"schemaVersion": 2, "config": part, "layers": []}).encode()

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self):
            body = manifest if "/manifests/" in self.path else b"another."
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever).start()
    try:
        host = f"127.0.0.1:{server.server_port}"
        images = store(tmp_path, Names(registries=frozenset({host})), plain=frozenset({host}))
        with pytest.raises(SiteRejected, match="digest"):
            images.ensure(f"{host}/a/b:1")
    finally:
        server.shutdown()
        server.server_close()
    assert not list((tmp_path / "pulled").glob(".pulling-*"))


@pytest.mark.real("docker-registry")
async def test_a_registry_says_what_an_image_is_made_for(tmp_path, layout):
    with registry(tmp_path) as server:
        one = server.push(layout, BUSYBOX, "team/one:1")
        two = image_for(tmp_path / "layout", "two:1", "arm64", "s390x")
        two = server.push(tmp_path / "layout", two, "team/two:1")
        told = [await RegistryPull(name, None, plain=True).platforms() for name in (one, two)]
        assert told == [
            {("linux", architecture(), "")},
            {("linux", "arm64", ""), ("linux", "s390x", "")},
        ]
        with pytest.raises(NotFound):
            await RegistryPull(f"{server.host}/none:1", None, plain=True).platforms()
    with pytest.raises(Unavailable):
        await RegistryPull(one, None, plain=True).platforms()
