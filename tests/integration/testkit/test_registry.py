"""The registry fixture against Debian's docker-registry and skopeo."""

import base64
import json
import urllib.error
import urllib.request

import pytest

from twinfra.core.tls import server_tls
from twinfra.testkit.images import busybox_image
from twinfra.testkit.ports import listening
from twinfra.testkit.registry import registry, skopeo

pytestmark = pytest.mark.real("docker-registry")
USERS = {"puller": "open sesame: 7"}


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    busybox_image(folder / "layout", folder / "work")
    return folder / "layout"


def _tag(layout):
    index = json.loads((layout / "index.json").read_text())
    return index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]


def _status(url, account=None):
    request = urllib.request.Request(url)
    if account:
        pair = base64.b64encode(":".join(account).encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_pushed_image_keeps_its_digest(tmp_path, layout):
    with registry(tmp_path) as made:
        whole = made.push(layout, _tag(layout), "team/busybox:1")
        shown = skopeo("inspect", "--tls-verify=false", f"docker://{whole}").check()
    here = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    assert json.loads(shown.stdout)["Digest"] == here


@pytest.mark.story("imagePullSecrets (Debian's `docker-registry` as the private registry)")
def test_a_private_registry_refuses_whoever_has_no_account(tmp_path, layout):
    with registry(tmp_path, USERS) as made:
        made.push(layout, _tag(layout), "team/busybox:1")
        tags = f"{made.url}/v2/team/busybox/tags/list"
        said = [
            _status(tags, account)
            for account in (None, ("puller", "wrong"), ("nobody", "x"), *USERS.items())
        ]
        secret = json.loads(made.pull_secret("pull")["stringData"][".dockerconfigjson"])
        given = secret["auths"][made.host]
        assert _status(tags, (given["username"], given["password"])) == 200
    assert said == [401, 401, 401, 200]


def test_a_registry_over_tls_is_believed_by_its_authority_alone(tmp_path, layout):
    with registry(tmp_path, USERS, tls=server_tls(tmp_path)) as made:
        whole = made.push(layout, _tag(layout), "team/busybox:1")
        bare = skopeo("inspect", "--creds", "puller:open sesame: 7", f"docker://{whole}")
        assert "certificate" in bare.stderr


def test_a_registry_is_gone_after_its_block(tmp_path):
    with registry(tmp_path) as made:
        port = int(made.host.partition(":")[2])
        assert listening(port)
    assert not listening(port)
