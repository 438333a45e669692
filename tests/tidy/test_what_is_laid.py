"""What everyone after finds in the tree: the package's facts, pinned installs, documents."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("source", Path(__file__).with_name("source.py"))
source = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(source)
ROOT = source.ROOT
DOCUMENTS = (
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/tutorial.md",
    "docs/architecture.md", "docs/glossary.md", "docs/howto/index.md", "docs/reference/index.md",
    "docs/adr/index.md", "docs/critiques.md",
)  # fmt: skip


@pytest.mark.story("Package `twinfra` in `src/`, Apache-2.0, Python 3.11-3.13, typed (`py.typed`)")
def test_the_package_says_what_it_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "twinfra"
    assert project["license"] == "Apache-2.0"
    assert project["requires-python"] == ">=3.11,<3.14"
    assert (source.SOURCE / "py.typed").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text()


@pytest.mark.story("Pinned, hashed requirements for installs, without any URL in them")
def test_every_requirement_is_pinned_and_hashed_and_has_no_address():
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        if path.name == "debian.txt":
            continue
        text = re.sub(r"\\\n\s*", " ", path.read_text())
        lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"]
        assert lines, path
        for line in lines:
            assert "://" not in line, (path.name, line)
            assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+", line), (path.name, line)
            assert "--hash=sha256:" in line, (path.name, line)


@pytest.mark.story(
    "`docs/`: tutorial, architecture, glossary, how-to, reference generated from code, ADRs, a page"
    " of known flaws. README with one picture of the architecture, a real screenshot and real"
    " output. CHANGELOG, CONTRIBUTING, SECURITY"
)
def test_the_documents_are_there_and_the_readmes_links_lead_somewhere():
    for name in DOCUMENTS:
        assert len((ROOT / name).read_text()) > 40, name
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert {Path(each).suffix for each in pictures} == {".svg", ".png"}
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.story(
    "A second, tiny example from another domain shows that nothing knows the climate"
)
def test_nothing_in_the_package_knows_the_climate():
    word = re.compile(r"iris|met.?office|glosea|warming|\bA1B\b|north_america", re.IGNORECASE)
    found = [path for path in source.python_files(source.SOURCE) if word.search(path.read_text())]
    assert found == []


@pytest.mark.story("a table in the docs, generated from the tests' markers, lists them")
def test_generated_pages_equal_the_committed_ones():
    argv = [sys.executable, "scripts/reference.py", "--check"]
    done = subprocess.run(
        argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
