"""Whose a pod is at a site that trusts the cluster: its ServiceAccount's, or nobody's."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


@pytest.fixture
def policy():
    """What the site does with pods that it does not map."""
    return 'unmapped = "refuse"'


@pytest.fixture
def settings(settings, context, control_plane, kube_namespace, policy):
    """Trust the cluster by a copy of its keys, and know the account ``trainer`` alone."""
    keys = context.home.root / "cluster-keys.json"
    keys.write_text(control_plane.kubectl("get", "--raw", "/openid/v1/jwks").stdout)
    with context.home.settings_file.open("a") as file:
        file.write(
            f"""
{policy}
[[sites.hpc-b.plugin.workloads]]
issuer = "{control_plane.issuer}"
namespace = "{kube_namespace}"
account = "trainer"
group = "climate"
[[access.issuers]]
issuer = "{control_plane.issuer}"
keys_file = "{keys}"
"""
        )


@pytest.mark.story("Whose pod is it. By default the pod's ServiceAccount")
async def test_a_pod_belongs_to_its_service_account_when_the_site_maps_it(
    pods, node, house, control_plane
):
    await pods.kubectl("create", "serviceaccount", "trainer")
    uid = await pods.create(serviceAccountName="trainer")
    await house.until_job(uid)
    owner = (await house.kept(uid)).owner
    assert owner.issuer == control_plane.issuer
    assert owner.sub == f"system:serviceaccount:{pods.namespace}:trainer"
    assert owner.group == "climate"


@pytest.mark.story("An unstamped pod gets the namespace's robot account")
@pytest.mark.parametrize("policy", ["", 'unmapped = "robot"'])
async def test_a_pod_gets_the_robot_account_when_the_site_does_not_map_its_own(
    pods, node, house, policy
):
    uid = await pods.create()
    await house.until_job(uid)
    owner = (await house.kept(uid)).owner
    assert owner.sub == f"robot:{pods.namespace}"
    assert owner.issuer == house.issuer.url


@pytest.mark.story("is refused, by the site's policy")
async def test_a_pod_fails_and_says_why_when_the_site_does_not_map_its_account(pods, node, house):
    uid = await pods.create()
    failed = await pods.until_phase("train-0", "Failed")
    assert "no account for system:serviceaccount" in failed["status"]["message"]
    assert house.job(uid) is None
