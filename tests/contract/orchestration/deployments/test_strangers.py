"""curl, with the INDIGO orchestrator's own words, drives a deployment from its birth to its end."""

import asyncio
import json

import pytest

BODY = {
    "parameters": {"years": 5},
    "callback": None,
    "timeoutMins": 60,
    "providerTimeoutMins": 10,
    "maxProvidersRetry": 3,
    "keepLastAttempt": False,
    "userGroup": "climate",
}


@pytest.fixture
def curl(orchestrator):
    """Return a way to run curl; it gives status, headers and body."""

    async def ask(path, *argv, token=None):
        bearer = token or orchestrator.token()
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-i", "--http1.1", "-m", "60",
            "--cacert", str(orchestrator.context.tls_server().cafile),
            "-H", f"Authorization: Bearer {bearer}", *argv, orchestrator.url + path,
            stdin=-3, stdout=-1, stderr=-1,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err
        head, _, body = out.decode().partition("\r\n\r\n")
        first, *lines = head.splitlines()
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        return int(first.split()[1]), headers, body

    return ask


@pytest.mark.real("curl")
@pytest.mark.story(
    "curl with the research pages' own bodies drives both interLink hops and the deployments API"
)
async def test_curl_drives_a_deployment_from_its_birth_to_its_end(
    orchestrator, curl, template, tmp_path
):
    (tmp_path / "body.json").write_text(json.dumps({"template": template, **BODY}))
    post = ("-H", "Content-Type: application/json", "-d", f"@{tmp_path}/body.json")
    again = (*post, "-H", "Idempotency-Key: k")
    status, headers, body = await curl("/deployments", *again)
    made = json.loads(body)
    here = f"/deployments/{made['uuid']}"
    assert (status, made["status"]) == (201, "CREATE_IN_PROGRESS")
    assert headers["location"] == orchestrator.url + here
    status, headers, body = await curl("/deployments", *again)
    assert (status, json.loads(body)["uuid"]) == (200, made["uuid"])
    assert headers["idempotency-replayed"] == "true"
    await orchestrator.world.play()
    (uid,) = orchestrator.world.driver.site("hpc-b").pods
    orchestrator.world.driver.finish(uid, 0, "2 models written\n")
    await orchestrator.world.play(20)
    _, _, body = await curl(here)
    assert json.loads(body)["status"] == "CREATE_COMPLETE"
    _, _, body = await curl(f"{here}/placement")
    (placed,) = json.loads(body)
    assert placed["chosen"] == "hpc-b"
    assert placed["excluded"][0]["reason"]
    _, _, body = await curl(f"{here}/log?tail=100")
    assert "2 models written" in body
    _, headers, body = await curl(f"{here}/events?follow=false", "-N")
    assert headers["content-type"].startswith("text/event-stream")
    assert "event: status" in body
    assert '"CREATE_COMPLETE"' in body
    assert (await curl(here, "-X", "DELETE"))[0] == 204
    assert (await curl(here, "-X", "DELETE"))[0] == 409
    await orchestrator.world.play(20)
    _, _, body = await curl(here)
    assert json.loads(body)["status"] == "DELETE_COMPLETE"


@pytest.mark.real("curl")
@pytest.mark.story("a good token without the right: 403")
async def test_curl_is_told_who_may_what(orchestrator, curl, template):
    body = json.dumps({"template": template, "userGroup": "climate"})
    post = ("-H", "Content-Type: application/json", "-d", body)
    bob = orchestrator.token("bob", ("hydrology",))
    for token, status in ((bob, 403), (orchestrator.issuer.expired(aud=orchestrator.url), 401)):
        found, _, text = await curl("/deployments", *post, token=token)
        assert found == status
        assert set(json.loads(text)) >= {"code", "title", "message"}
