"""A twin from another domain, on both databases, and what kill -9 does to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from twinfra.compute.containers.images.build import build_image
from twinfra.compute.containers.images.recipe import read_recipe
from twinfra.core.settings import cache_folder

HELLO = Path(__file__).parents[2] / "examples" / "hello-twin"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def image():
    layout = cache_folder() / "images"
    layout.mkdir(parents=True, exist_ok=True)
    recipe = read_recipe(HELLO / "image.toml")
    return f"{recipe.name}@{build_image(recipe, layout).digest}"


def hello(home, image):
    return subprocess.Popen(
        [sys.executable, HELLO / "hello.py", home.root, image],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.story(
    "A second, tiny example from another domain shows that nothing knows the climate"
)
def test_the_poem_is_counted_on_sqlite_and_nothing_is_left_running(tmp_path, federation, image):
    with federation(tmp_path) as running:
        text, _ = hello(running.home, image).communicate(timeout=240)
        assert text.strip().endswith("7 words"), text
    assert running.processes() == []


@pytest.mark.story("SQLite and PostgreSQL behind the same code; one end-to-end run on both")
def test_the_poem_is_counted_on_postgresql(tmp_path, federation, image, postgres_url):
    with federation(tmp_path, f'\n[database]\nurl = "{postgres_url}"\n') as running:
        text, _ = hello(running.home, image).communicate(timeout=240)
        assert text.strip().endswith("7 words"), text
        assert list((running.home.root / "db").glob("*.sqlite")) == []


@pytest.mark.story("kill -9 of every twinfra and NATS process, then up again: the twin finishes")
def test_the_twin_finishes_when_every_process_was_killed(tmp_path, federation, image):
    with federation(tmp_path) as running:
        asker = hello(running.home, image)
        line = ""
        with (running.home.logs / "hub.log").open() as log:
            while '"/deployments"' not in line:
                line = log.readline()
        running.kill_everything()
        asker.communicate()
        running.wait_event("org.twinfra.dataset.version-added")
        shown = running.command("dataset", "list", "climate")
        assert "climate:words.v1" in shown
        assert "climate:words.v2" not in shown
