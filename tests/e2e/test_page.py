"""The web page in a real browser."""

import asyncio

import pytest
from playwright.async_api import async_playwright

from twinfra.access.login import IssuerClient, person_code
from twinfra.core.service import Context

pytestmark = pytest.mark.timeout(1200)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--ignore-certificate-errors",
]


@pytest.mark.story("a Chromium test opens the page and finds the deployment and its live events")
async def test_a_browser_signs_in_and_sees_deployment_and_live_events(told, command, tmp_path):
    context = Context(told.home)
    issuer = IssuerClient.from_context(context, "dashboard")
    page_url = context.url("dashboard") + "/"
    link = await issuer.one_time_link("alice", person_code(told.home, "alice"), page_url)
    await issuer.close()
    async with async_playwright() as player:
        browser = await player.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = await (await browser.new_context(ignore_https_errors=True)).new_page()
        problems = []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("response", lambda r: problems.append(r.url) if r.status >= 400 else None)
        await page.goto(link)
        await page.wait_for_selector("text=CREATE_COMPLETE")
        await page.wait_for_selector("#live.on")
        assert await page.locator("text=hpc-b").count() > 0
        scenarios = page.locator("tr", has_text="climate:scenarios")
        assert await scenarios.locator("td").nth(3).inner_text() == "2"  # files
        poem = tmp_path / "poem.txt"
        poem.write_text("new data")
        target = f"{context.url('edge@edge-c')}/dav/page/poem.txt"
        await asyncio.to_thread(command, "login", "--as", "alice", home=told.home.root)
        await asyncio.to_thread(command, "cp", str(poem), target, home=told.home.root)
        await page.wait_for_selector("#events >> text=page/poem.txt", timeout=20_000)
        uuid = told.found(r"deployment (\S+) accepted")
        await page.click(f"a[href^='/deployments/{uuid}']")
        await page.wait_for_selector("text=Why this provider")
        assert await page.locator("text=train").count() > 0
        await browser.close()
    assert problems == []
