"""Installing again changes nothing, a change is brought up to date, and all goes away again."""

import pytest

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.placement.install import Deed, Installer, by_hand
from twinfra.core.errors import Conflict
from twinfra.testkit.waiting import wait_for_sync

from .conftest import CREATOR, ISSUER, WITHIN_S, install, pod, uninstall, until

pytestmark = [pytest.mark.real("Kubernetes"), pytest.mark.timeout(600)]


@pytest.fixture
async def client(control_plane):
    made = KubeClient.from_kubeconfig(control_plane.kubeconfig)
    yield made
    await made.close()


async def test_installing_again_changes_nothing(installed):
    assert {each.deed for each in await install(installed)} == {Deed.UNCHANGED}


async def test_an_upgrade_changes_what_differs_and_only_that(installed):
    changed = [
        each
        for each in await install(installed, issuers=[ISSUER])
        if each.deed is not Deed.UNCHANGED
    ]
    assert {each.deed for each in changed} == {Deed.CHANGED}
    assert {each.name for each in changed} == {
        "twinfra-creator-pods",
        "twinfra-creator-templates",
        "twinfra-creator-cronjobs",
    }
    await install(installed)


async def test_a_dry_run_changes_nothing(installed, client):
    done = await Installer(client).uninstall(dry_run=True)
    assert Deed.DELETED in {each.deed for each in done}
    assert {each.deed for each in await install(installed)} == {Deed.UNCHANGED}


async def test_uninstalling_leaves_pods_alone_and_a_forged_stamp_stops_a_later_install(
    installed, offload
):
    await uninstall(installed)
    forged = pod("forged", annotations={CREATOR: f"{ISSUER}#alice"})

    def accepted():
        try:
            installed.apply(forged, namespace=offload)
        except AssertionError:
            return False
        return True

    wait_for_sync(accepted, timeout_s=WITHIN_S, what="the policies to be gone")
    with pytest.raises(Conflict, match=f"pods {offload}/forged"):
        await install(installed)
    installed.kubectl("-n", offload, "delete", "pod", "forged", "--force", "--grace-period=0")

    async def back():
        try:
            await install(installed)
        except Conflict as error:  # what other tests stamped goes with their namespaces
            if offload in error.detail:
                raise
            return False
        return True

    await until(back, "the policies to be back")


async def test_the_cluster_is_new_enough_and_an_older_one_is_told_what_to_do(client):
    assert (await Installer(client).version()).startswith("v1.")
    assert "virtual-node.interlink/no-schedule" in by_hand("v1.31.0")
    assert "tolerations" in by_hand("v1.31.0")
