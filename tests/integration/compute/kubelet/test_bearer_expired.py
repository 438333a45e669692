"""The kubelet's own token for its site runs out while a job runs, which goes on."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


@pytest.fixture
def bearer(context, settings, issuer, house, node_name):
    """Write the file with the kubelet's token for its site, which it reads for each call."""
    path = context.home.root / "bearer"

    def write(**more):
        path.write_text(issuer.service_token("kubelet", aud=house.api, **more) + "\n")

    with context.home.settings_file.open("a") as file:
        file.write(f'[kubelet.nodes.{node_name}]\ntoken_file = "{path}"\n')
    return write


@pytest.mark.story("token expired mid-job")
async def test_a_job_goes_on_and_its_end_is_seen_when_the_kubelets_token_ran_out(
    pods, kubelet, house, bearer, recorder, control_plane, ready, condition_of
):
    bearer()
    kubelet.start()
    await ready(control_plane, kubelet.node)
    uid = await pods.create()
    job = await house.until_job(uid)
    house.site.start(uid)
    await pods.until_phase("train-0", "Running")
    bearer(iat=0, nbf=0, expires_in=-3600)
    body = await ready(control_plane, kubelet.node, "False")
    assert "expired" in condition_of(body, "Ready")["message"]
    await house.end_api()  # streams that were opened with the good token end too
    await house.start_api()
    asked = len(recorder.of("/status"))
    house.site.finish(uid)
    await house.until(lambda: len(recorder.of("/status")) > asked + 1)  # in vain
    assert (await pods.get())["status"]["phase"] == "Running"
    bearer()
    await ready(control_plane, kubelet.node)
    await pods.until_phase("train-0", "Succeeded")
    assert house.site.submissions == [uid]
    assert job.cancels == 0
