"""A pod of a real control plane through doors that ask for the kubelet's certificate."""

import pytest

from twinfra.core.tls import server_tls

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
SITE = "hpc-b"


@pytest.fixture
def settings(settings, context, node_name, tmp_path):
    (tmp_path / "clients").mkdir()
    files = server_tls(tmp_path / "clients")
    own = f'certificate_file = "{files.certfile}"\nkey_file = "{files.keyfile}"\n'
    asks = f'client_ca_file = "{files.cafile}"\n'
    with context.home.settings_file.open("a") as file:
        file.write(f"{asks}[sites.{SITE}.interlink]\n{asks}{own}[kubelet.nodes.{node_name}]\n{own}")


@pytest.mark.story("mTLS and bearer on both hops between our own: a pod of the kubelet's")
async def test_a_pod_runs_behind_doors_that_want_a_certificate(pods, node, house):
    uid = await pods.create()
    await house.until_job(uid)
    house.site.start(uid)
    house.site.finish(uid)
    await pods.until_phase("train-0", "Succeeded")
