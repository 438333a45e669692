"""The INDIGO REST API over a socket: bodies, pages, rights, refusals; ours beside it."""

import itertools

import pytest

ID = "/deployments/00000000-0000-4000-8000-000000000000"
ROUTES = [
    ("GET", "/configuration"),
    ("GET", "/deployments"),
    ("POST", "/deployments"),
    ("GET", ID),
    ("PUT", ID),
    ("PATCH", ID),
    ("DELETE", ID),
    ("GET", f"{ID}/template"),
    ("GET", f"{ID}/log"),
    ("GET", f"{ID}/extrainfo"),
    ("GET", f"{ID}/resources"),
    ("GET", f"{ID}/resources/filter?type=x"),
    ("GET", f"{ID}/resources/x"),
    ("GET", f"{ID}/placement"),
    ("GET", f"{ID}/attempts"),
    ("GET", f"{ID}/runs"),
    ("GET", f"{ID}/events"),
]
OWN_ROUTES = [("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json")]


async def test_every_route_says_why_when_the_token_is_not_good(orchestrator):
    issuer, url = orchestrator.issuer, orchestrator.url
    bad = {
        "": "a bearer token is needed",
        issuer.expired(aud=url): "expired",
        issuer.forged(aud=url): "signature",
        issuer.token(aud="https://other.test"): "another audience",
    }
    for (method, path), (token, reason) in itertools.product(ROUTES + OWN_ROUTES, bad.items()):
        reply = await orchestrator.ask(method, path, token)
        assert reply.status == 401
        body = reply.json()
        if (method, path) in OWN_ROUTES:
            assert (body["code"], body["status"]) == ("unauthenticated", 401)
            assert reason in body["detail"]
        else:
            assert (body["code"], body["title"]) == (401, "Unauthorized")
            assert reason in body["message"]
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")


async def test_everyone_learns_who_answers(orchestrator):
    for path in ("/", "/info"):
        assert (await orchestrator.ask("GET", path, "")).json()["projectName"] == "twinfra"
    found = await orchestrator.ask("GET", "/configuration")
    assert found.json() == {"rucio_url": "https://r.example"}


async def test_deployment_is_made_when_all_is_well(orchestrator, template):
    body = {"template": template, "parameters": {"years": 5}, "userGroup": "climate"}
    reply = await orchestrator.ask("POST", "/deployments", json=body)
    assert reply.status == 201
    found = reply.json()
    here = f"{orchestrator.url}/deployments/{found['uuid']}"
    assert reply.headers["Location"] == here
    assert {"rel": "self", "href": here} in found["links"]
    assert found["status"] == "CREATE_IN_PROGRESS"
    assert found["createdBy"] == {"issuer": orchestrator.issuer.url, "subject": "alice"}
    assert found["userGroup"] == "climate"
    assert set(found) >= {
        "uuid", "creationTime", "updateTime", "physicalId", "status", "statusReason", "outputs",
        "task", "callback", "userGroup", "cloudProviderName", "cloudProviderEndpoint",
        "createdBy", "links",
    }  # fmt: skip
    await orchestrator.world.play()
    now = (await orchestrator.ask("GET", f"/deployments/{found['uuid']}")).json()
    assert now["cloudProviderName"] == "hpc-b"
    assert now["cloudProviderEndpoint"]["cpEndpoint"] == "https://hpc-b.example"
    assert now["task"] == "DEPLOYER"
    text = await orchestrator.client().template(found["uuid"])
    assert text == template


BAD_BODIES = [
    ({"template": None}, "template"),
    ({"template": 5}, "template"),
    ({"nonsense": 1}, "nonsense"),
    ({"parameters": []}, "parameters"),
    ({"timeoutMins": 0}, "timeoutMins"),
    ({"timeoutMins": "5"}, "timeoutMins"),
    ({"maxProvidersRetry": 0}, "maxProvidersRetry"),
    ({"timeoutMins": 5, "providerTimeoutMins": 6}, "providerTimeoutMins"),
    ({"keepLastAttempt": "yes"}, "keepLastAttempt"),
    ({"callback": "ftp://x.example"}, "callback"),
    ({"callback": "https://user:pw@x.example"}, "callback"),
    ({"parameters": {"years": 500}}, "years"),
    ({"parameters": {"unknown": 5}}, "unknown"),
]


async def test_body_is_refused_with_the_fields_name_when_wrong(orchestrator, template):
    for changes, named in BAD_BODIES:
        body = {"template": template, **changes}
        reply = await orchestrator.ask("POST", "/deployments", json=body)
        assert reply.status == 400, changes
        found = reply.json()
        assert (found["code"], found["title"]) == (400, "Bad Request")
        assert named in str(found)
        assert "Traceback" not in reply.text()
    for raw in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe"):
        headers = {"Content-Type": "application/json"}
        reply = await orchestrator.ask("POST", "/deployments", data=raw, headers=headers)
        assert (reply.status, reply.json()["code"]) == (400, 400), raw
    assert (await orchestrator.client().deployments()) == []


@pytest.mark.story(
    "A TOSCA template with an unknown type, a missing input, a cycle: refused at once, all"
    " errors with their lines"
)
async def test_all_faults_come_with_lines_when_the_template_is_wrong(orchestrator):
    text = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs: {needed: {type: string}}
  node_templates:
    a:
      type: tosca.nodes.Nonsense
    b:
      type: tosca.nodes.twinfra.Job
      properties: {image: x}
      capabilities: {host: {properties: {mem_size: 5 bananas}}}
"""
    reply = await orchestrator.ask("POST", "/deployments", json={"template": text})
    assert reply.status == 400
    errors = reply.json()["errors"]
    assert {each["line"] for each in errors} >= {6, 10}
    assert any("needed" in str(each) for each in errors)
    assert (await orchestrator.client().deployments()) == []


async def test_group_is_refused_when_the_token_lacks_it(orchestrator, template):
    body = {"template": template, "userGroup": "hydrology"}
    reply = await orchestrator.ask("POST", "/deployments", json=body)
    assert (reply.status, reply.json()["title"]) == (403, "Forbidden")
    nobody = orchestrator.token("eve", ())
    assert (await orchestrator.ask("POST", "/deployments", nobody, json=body)).status == 403


@pytest.mark.story("An input dataset that does not exist: refused before anything starts")
async def test_missing_data_is_named_when_nobody_has_it(orchestrator, template):
    text = template.replace("climate:scenarios", "climate:nowhere")
    reply = await orchestrator.ask("POST", "/deployments", json={"template": text})
    assert reply.status == 400
    assert "climate:nowhere" in reply.json()["message"]
    assert reply.json()["errors"][0]["line"] == 7


async def test_same_deployment_is_answered_when_the_key_repeats(orchestrator, template):
    headers = {"Idempotency-Key": "once"}
    body = {"template": template}
    first = await orchestrator.ask("POST", "/deployments", json=body, headers=headers)
    again = await orchestrator.ask("POST", "/deployments", json=body, headers=headers)
    assert (first.status, again.status) == (201, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["uuid"] == again.json()["uuid"]
    other = {"template": template, "parameters": {"years": 3}}
    assert (
        await orchestrator.ask("POST", "/deployments", json=other, headers=headers)
    ).status == 409


async def test_pages_are_whole_and_stable_when_there_are_many(orchestrator, template):
    client = orchestrator.client()
    made = []
    for _ in range(25):
        made.append((await client.create(template))["uuid"])
        await orchestrator.world.clock.advance(1)
    reply = await orchestrator.ask("GET", "/deployments?size=10&page=2")
    body = reply.json()
    assert body["page"] == {"size": 10, "totalElements": 25, "totalPages": 3, "number": 2}
    assert [each["uuid"] for each in body["content"]] == made[4::-1]
    rels = {link["rel"]: link["href"] for link in body["links"]}
    assert set(rels) == {"first", "prev", "self", "last"}
    previous = await orchestrator.ask("GET", rels["prev"])
    assert [each["uuid"] for each in previous.json()["content"]] == made[14:4:-1]
    assert len((await orchestrator.ask("GET", "/deployments")).json()["content"]) == 10
    oldest = await orchestrator.ask("GET", "/deployments?sort=createdAt,asc&size=1")
    assert oldest.json()["content"][0]["uuid"] == made[0]
    assert len(await client.deployments()) == 25


async def test_list_is_refused_when_a_parameter_is_wrong(orchestrator):
    for query in ("page=-1", "size=0", "sort=name", "status=FINE", "createdBy=alice", "page=x"):
        assert (await orchestrator.ask("GET", f"/deployments?{query}")).status == 400, query


async def test_filters_and_rights_hold_when_listing(orchestrator, template):
    mine = (await orchestrator.client().create(template))["uuid"]
    carol, bob = orchestrator.token("carol"), orchestrator.token("bob", ("hydrology",))
    theirs = (await orchestrator.client(carol).create(template))["uuid"]

    async def seen(token, **filters):
        return {each["uuid"] for each in await orchestrator.client(token).deployments(**filters)}

    assert await seen(None) == {mine}
    assert await seen(None, createdBy="me") == {mine}
    assert await seen(None, userGroup="climate") == {mine, theirs}
    assert await seen(None, createdBy=f"carol@{orchestrator.issuer.url}") == {theirs}
    assert await seen(bob, userGroup="climate") == set()
    assert await seen(bob, createdBy=f"alice@{orchestrator.issuer.url}") == set()
    assert await seen(None, status="CREATE_IN_PROGRESS") == {mine}
    assert await seen(None, status="CREATE_COMPLETE") == set()
    service = orchestrator.issuer.service_token("dashboard", aud=orchestrator.url)
    assert await seen(service) == {mine, theirs}


async def test_stranger_finds_nothing_and_member_may_only_look(orchestrator, template):
    uuid = (await orchestrator.client().create(template))["uuid"]
    bob, carol = orchestrator.token("bob", ("hydrology",)), orchestrator.token("carol")
    here = f"/deployments/{uuid}"
    for path in (here, f"{here}/log", f"{here}/runs", f"{here}/events", f"{here}/placement"):
        reply = await orchestrator.ask("GET", path, bob)
        assert reply.status == 404
        assert reply.json()["message"] == f"The deployment {uuid} doesn't exist"
    assert (await orchestrator.ask("GET", here, carol)).status == 200
    for method, body in (("DELETE", None), ("PUT", {"template": template})):
        assert (await orchestrator.ask(method, here, carol, json=body)).status == 403
        assert (await orchestrator.ask(method, here, bob, json=body)).status == 404


@pytest.mark.story(
    "The job exits 3: the deployment says `CREATE_FAILED` with exit code and the last log"
    " lines as reason"
)
async def test_story_of_a_job_can_be_read_when_it_fails(orchestrator, template):
    world, client = orchestrator.world, orchestrator.client()
    uuid = (await client.create(template))["uuid"]
    await world.play()
    (uid,) = world.driver.site("hpc-b").pods
    world.driver.finish(uid, 3, "first\nValueError: no year 2099\n")
    await world.play(20)
    found = await client.get(uuid)
    assert found["status"] == "CREATE_FAILED"
    assert "exit code 3" in found["statusReason"]
    assert "ValueError: no year 2099" in found["statusReason"]
    (attempt,) = await client.attempts(uuid)
    assert (attempt["site"], attempt["failure"], attempt["exitCode"]) == ("hpc-b", "job_failed", 3)
    (run,) = await client.runs(uuid)
    assert (run["node"], run["number"], run["state"]) == ("train", 1, "FAILED")
    (placed,) = await client.placement(uuid)
    assert (placed["node"], placed["chosen"]) == ("train", "hpc-b")
    assert placed["candidates"][1]["site"] == "cloud-a"
    assert placed["excluded"][0]["detail"] == "it is too small"
    log = await client.log(uuid)
    assert "ValueError: no year 2099" in log
    assert "CREATE_FAILED" in log
    assert len((await client.log(uuid, tail=1)).splitlines()) == 3
    (resource,) = await client.resources(uuid)
    assert (resource["toscaNodeName"], resource["state"]) == ("train", "ERROR")
    one = await orchestrator.ask("GET", f"/deployments/{uuid}/resources/{resource['uuid']}")
    assert one.json() == resource
    for kind, count in ((resource["toscaNodeType"], 1), ("tosca.nodes.Other", 0)):
        path = f"/deployments/{uuid}/resources/filter?type={kind}"
        assert len((await orchestrator.ask("GET", path)).json()) == count
    (info,) = (await orchestrator.ask("GET", f"/deployments/{uuid}/extrainfo")).json()
    assert info["vmProperties"]["uid"] == uid


async def test_history_streams_on_when_the_reader_comes_back(orchestrator, template):
    world, client = orchestrator.world, orchestrator.client()
    uuid = (await client.create(template))["uuid"]
    first = []
    async for event in client.events(uuid):
        first.append(event)
        await world.play()
        if event.data.get("phase") == "RUNNING":
            break
    (uid,) = world.driver.site("hpc-b").pods
    world.driver.finish(uid, 0)
    await world.play(20)
    settled = await client.wait_settled(uuid)
    assert settled["status"] == "CREATE_COMPLETE"
    await client.delete(uuid)
    await world.play(20)
    rest = [event async for event in client.events(uuid, after=first[-1].seq)]
    assert [e.data["status"] for e in rest if e.kind == "status"] == [
        "CREATE_COMPLETE",
        "DELETE_IN_PROGRESS",
        "DELETE_COMPLETE",
    ]
    assert rest[0].seq > first[-1].seq


async def test_history_begins_anew_when_the_readers_place_is_nonsense(orchestrator, template):
    uuid = (await orchestrator.client().create(template))["uuid"]
    path = f"/deployments/{uuid}/events?follow=false"
    for place in ("x", "-1", "\u00b2", "9" * 30):
        reply = await orchestrator.ask("GET", path, headers={"Last-Event-ID": place})
        assert reply.status == 200, place
        assert "id: 1\n" in reply.text()
    reply = await orchestrator.ask("GET", f"{path}&after={10**30}")
    assert reply.status == 400


async def test_removal_answers_at_once_and_only_once(orchestrator, template):
    uuid = (await orchestrator.client().create(template))["uuid"]
    here = f"/deployments/{uuid}"
    assert (await orchestrator.ask("DELETE", here)).status == 204
    again = await orchestrator.ask("DELETE", here)
    assert (again.status, again.headers["Retry-After"]) == (409, "0")
    await orchestrator.world.play(20)
    assert (await orchestrator.ask("GET", here)).json()["status"] == "DELETE_COMPLETE"
    wrong = await orchestrator.ask("PATCH", here, json={"status": "CREATE_COMPLETE"})
    assert wrong.status == 400


async def test_unknown_paths_and_methods_have_the_same_shape(orchestrator):
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/deployments", 405)):
        reply = await orchestrator.ask(method, path)
        assert reply.status == status
        assert set(reply.json()) >= {"code", "title", "message"}
