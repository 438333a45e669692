"""Doors that ask for a client's certificate, beside the token, on both hops."""

import asyncio
import json

import pytest

from twinfra.core.tls import server_tls

SITE = "hpc-b"


@pytest.fixture(params=["required", "optional"])
def manner(request):
    return request.param


@pytest.fixture
def ours(tmp_path):
    """A certificate of the authority that both doors know."""
    (tmp_path / "ours").mkdir()
    return server_tls(tmp_path / "ours")


@pytest.fixture
def strange(tmp_path):
    (tmp_path / "strange").mkdir()
    return server_tls(tmp_path / "strange")


@pytest.fixture
def context(context, ours, manner):
    context.home.root.mkdir(exist_ok=True)
    asks = f'client_ca_file = "{ours.cafile}"\nclient_certificates = "{manner}"\n'
    context.home.settings_file.write_text(
        f"[sites.{SITE}.plugin]\n{asks}[sites.{SITE}.interlink]\n{asks}"
        f'certificate_file = "{ours.certfile}"\nkey_file = "{ours.keyfile}"\n'
    )
    return context


async def knock(house, url, files=None, *, bearer=True):
    """Ask a door with curl; give its exit code and the status."""
    argv = ["--cert", str(files.certfile), "--key", str(files.keyfile)] if files else []
    if bearer:
        argv += ["-H", f"Authorization: Bearer {house.service_token(aud=url)}"]
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--cacert", str(house.ctx.tls_server().cafile), "-m", "20",
        "-o", "/dev/null", "-w", "%{http_code}", "-X", "GET", "-d", "[]", *argv, f"{url}/status",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, int(out or 0)


@pytest.mark.real("curl")
@pytest.mark.story("mTLS and bearer on both hops between our own")
@pytest.mark.parametrize("hop", ["api", "plugin"])
async def test_a_door_wants_our_certificate_and_a_token(house, ours, strange, hop, manner):
    url = getattr(house, hop)
    assert await knock(house, url, ours) == (0, 200)
    assert await knock(house, url, ours, bearer=False) == (0, 401)
    code, status = await knock(house, url, strange)
    assert (code != 0, status) == (True, 0)
    code, status = await knock(house, url)
    if manner == "optional":
        assert (code, status) == (0, 200)
    else:
        assert (code != 0, status) == (True, 0)


@pytest.mark.real("curl")
async def test_a_pod_goes_through_both_doors(house, ours, pod):
    made = pod()
    status, body = await house.curl(
        "--cert", str(ours.certfile), "--key", str(ours.keyfile), "-X", "POST",
        "-H", "Content-Type: application/json", "-d", json.dumps({"pod": made}),
        f"{house.api}/create",
    )  # fmt: skip
    assert (status, json.loads(body)["PodUID"]) == (200, made["metadata"]["uid"]), body
