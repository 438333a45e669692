"""Rucio's own unmodified command against the service, with a token of the federation's issuer."""

import pytest

from twinfra.data.datasets.client import Did, NewRule

SCENARIOS = Did("climate", "scenarios")
FILES = {"A1B.nc": b"warm" * 2000, "E1.nc": b"mild" * 1000}


@pytest.mark.real("rucio")
@pytest.mark.story("the `rucio` client adds a rule and lists replicas")
async def test_the_rucio_command_adds_a_rule_and_lists_replicas(federation, rucio):
    await federation.upload("climate:scenarios", FILES)
    assert "twinfra" in await rucio.run("ping")
    assert "alice" in await rucio.run("whoami")

    out = await rucio.run("rule", "add", "climate:scenarios", "--copies", "1", "--rses", "HPC-B")
    rule_id = out.strip().splitlines()[-1]
    await federation.becomes(rule_id, "OK")
    assert "OK[2/0/0]" in await rucio.run("rule", "list", "--did", "climate:scenarios")
    assert "OK[2/0/0]" in await rucio.run("rule", "list", "--account", "alice")
    shown = await rucio.run("rule", "show", rule_id)
    assert "HPC-B" in shown
    assert "alice" in shown

    listed = await rucio.run("replica", "list", "file", "climate:scenarios")
    for site in ("edge-c", "hpc-b"):
        url = f"{federation.url(f'edge@{site}')}/dav/datasets/climate/scenarios/A1B.nc"
        assert f"{site.upper()}: {url}" in listed
    only = await rucio.run(
        "replica", "list", "file", "climate:scenarios", "--rses", "site=hpc-b", "--pfns"
    )
    assert only.count("/dav/datasets/climate/scenarios/") == 2
    assert "EDGE-C" not in only
    assert "HPC-B" in await rucio.run("replica", "list", "dataset", "climate:scenarios")

    await rucio.run("rule", "remove", rule_id)
    assert rule_id not in await rucio.run("rule", "list", "--account", "alice")


@pytest.mark.real("rucio")
async def test_the_rucio_command_makes_fills_describes_and_finds_data(federation, rucio):
    await federation.upload("climate:scenarios", FILES)
    assert "climate" in await rucio.run("scope", "list")
    listed = await rucio.run("did", "list", "climate:*", "--filter", "type=all")
    assert "climate:scenarios" in listed
    assert "climate:scenarios/A1B.nc" in listed
    found = await rucio.run("did", "content", "list", "climate:scenarios")
    assert "climate:scenarios/E1.nc" in found
    await rucio.run("did", "add", "climate:both", "--type", "container")
    await rucio.run("did", "content", "add", "climate:scenarios", "--to-did", "climate:both")
    assert "climate:scenarios" in await rucio.run("did", "content", "list", "climate:both")
    assert "climate:both" in await rucio.run("did", "list", "--parent", "climate:scenarios")
    shown = await rucio.run("did", "show", "climate:scenarios")
    assert "alice" in shown
    assert "12000" in shown
    await rucio.run("did", "metadata", "set", "climate:scenarios", "--key", "job", "--value", "j1")
    told = await rucio.run("did", "metadata", "list", "climate:scenarios", "--plugin", "JSON")
    assert "j1" in told
    await rucio.run("did", "update", "--close", "climate:scenarios")
    assert (await federation.datasets().get_did(SCENARIOS)).is_open is False
    assert "EDGE-C" in await rucio.run("rse", "list")
    assert "EDGE-C" in await rucio.run("rse", "list", "--rses", "site=edge-c")
    assert "/dav/datasets/" in await rucio.run("rse", "show", "EDGE-C")


@pytest.mark.real("rucio")
async def test_the_rucio_command_says_what_went_wrong(federation, rucio):
    await federation.upload("climate:scenarios", FILES)
    text = await rucio.run("did", "show", "climate:nothing", succeeds=False)
    assert "climate:nothing does not exist" in text
    text = await rucio.run(
        "rule", "add", "climate:scenarios", "--copies", "1", "--rses", "NOWHERE", succeeds=False
    )
    assert "RSE expression is considered invalid" in text
    text = await rucio.run("rse", "add", "MINE", succeeds=False)
    assert "only services of the federation may do this" in text
    text = await rucio.run("did", "add", "hydrology:x", "--type", "dataset", succeeds=False)
    assert "scope 'hydrology' does not exist" in text
    text = await rucio.run("subscription", "list", succeeds=None)
    assert "not offered" in text


@pytest.mark.real("rucio")
async def test_the_rucio_command_downloads_when_the_token_is_good_for_the_storage(
    federation, rucio, tmp_path
):
    # names without slashes: Rucio's own client makes no folders within a dataset's folder
    await federation.upload("climate:scenarios", FILES, joint=".")
    login = await federation.people["alice"]._client.refresh(
        federation.people["alice"]._store.read()["refresh_token"],
        [federation.url("datasets"), federation.url("edge@edge-c")],
    )
    folder = tmp_path / "got"
    await rucio.run(
        "download", "climate:scenarios", "--dir", str(folder), token=login["access_token"]
    )
    for name, body in FILES.items():
        assert (folder / "scenarios" / f"scenarios.{name}").read_bytes() == body


@pytest.mark.real("rucio")
async def test_rucio_is_told_how_to_bring_a_token_when_it_has_none(federation, rucio):
    text = await rucio.run("whoami", token="not-a-token", succeeds=None)
    assert "annot authenticate" in text.lower() or "authentication failed" in text.lower()


@pytest.mark.real("rucio")
async def test_a_rule_is_analysed_when_it_is_stuck(federation, rucio):
    await federation.upload("climate:one", {"f": b"good" * 50})
    storage = federation.context.home.site("edge-c").storage
    (storage / "datasets/climate/one/f").write_bytes(b"evil" * 50)
    rule_id = await federation.datasets().add_rule(NewRule(Did("climate", "one"), 1, "HPC-B"))
    await federation.becomes(rule_id, "STUCK")
    text = await rucio.run("rule", "show", "--examine", rule_id)
    assert "climate:one/f" in text
    assert "no source is left" in text
