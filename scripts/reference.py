"""Write the reference pages that follow from the code: settings, errors, commands, stories, APIs.

``--check`` writes nothing and fails when a page would change.
"""

import ast
import inspect
import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

from twinfra.cli.main import COMMANDS
from twinfra.cli.processes import WIRING
from twinfra.cli.settings import all_groups
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.wiring import SiteFoundation, build_api, build_plugin
from twinfra.compute.sites.mock import MockSettings, MockSite
from twinfra.compute.sites.runtime import NoRuntime
from twinfra.core.errors import BY_STATUS
from twinfra.core.home import Home
from twinfra.core.service import Context, Service

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
STORIES = ROOT / "scripts" / "stories.toml"
SITE = "a-site"
TABLE_HEAD = ("| sentence | kept by |", "| --- | --- |")


def pages() -> Iterator[tuple[str, str]]:
    """Yield name and text of every page."""
    yield "settings.md", settings()
    yield "errors.md", errors()
    yield "commands.md", commands()
    yield "stories.md", stories()
    yield from interfaces()


def settings() -> str:
    """Return the page of all settings."""
    lines = ["# Settings", "", "Order: flag > environment > `settings.toml` > default.", ""]
    for group in all_groups():
        prefix = "TWINFRA_" + group.section.replace(".", "__").upper()
        lines += [f"## `[{group.section}]`", "", inspect.getdoc(group) or "", ""]
        lines += [f"Environment: `{prefix}__<FIELD>`", ""]
        for name, field in group.model_fields.items():
            default = "required" if field.is_required() else f"`{_default(field)}`"
            lines += [f"`{name}` (default {default})", f": {field.description or ''}", ""]
    return "\n".join(lines)


def _default(field: object) -> str:
    factory = getattr(field, "default_factory", None)
    value = factory() if factory is not None else getattr(field, "default", None)
    return str(value) if isinstance(value, str) and value else repr(value)


def errors() -> str:
    """Return the page of all error families."""
    lines = ["# Errors", "", "Our own routes answer problem details (RFC 9457).", ""]
    for status, leaf in sorted(BY_STATUS.items()):
        again = "Try again later." if leaf.retryable else "Trying the same again does not help."
        lines += [f"## {leaf.code}", "", f"Status {status}. {inspect.getdoc(leaf)} {again}", ""]
    return "\n".join(lines)


def commands() -> str:
    """Return the page of all commands."""
    lines = ["# Commands", "", "`twinfra COMMAND --help` tells the rest.", ""]
    lines += [f"- `twinfra {name}`: {text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, ""])


def stories() -> str:
    """Return the tables of sentences, and the tests and make targets that keep each.

    Raises:
        LookupError: ``stories.toml`` names a test or a target that does not exist.
    """
    marked = _marked()
    lines = [
        "# Kept promises",
        "",
        "Each sentence, and the tests and make targets that keep it.",
        "",
    ]
    for title, sentences in tomllib.loads(STORIES.read_text()).items():
        lines += [f"## {title}", "", *TABLE_HEAD]
        for sentence, more in sentences.items():
            kept_by = dict.fromkeys([*marked.pop(sentence, ()), *map(_existing, more)])
            lines.append(_row(sentence, kept_by))
        lines.append("")
    lines += ["## More", "", *TABLE_HEAD]
    lines += [_row(sentence, kept_by) for sentence, kept_by in marked.items()]
    return "\n".join([*lines, ""])


def _marked() -> dict[str, list[str]]:
    """Return the tests that name a sentence by their marker, in the order of their files."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.story"):
                    where = f"{path.relative_to(ROOT)}::{node.name}"
                    found.setdefault(ast.literal_eval(mark.args[0]), []).append(where)
    return found


def _existing(name: str) -> str:
    """Return the name of a test or of a make target, which must exist."""
    if name.startswith("make "):
        target = name.split()[1]
        if not re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE):
            raise LookupError(f"{STORIES.name}: there is no make target {target}")
        return name
    path, _, test = name.partition("::")
    file = ROOT / path
    if not file.exists() or not re.search(
        rf"^(async )?def {test}\(", file.read_text(), re.MULTILINE
    ):
        raise LookupError(f"{STORIES.name}: there is no test {name}")
    return name


def _row(sentence: str, kept_by: Iterable[str]) -> str:
    cells = sentence.replace("|", "\\|"), "<br>".join(f"`{name}`" for name in kept_by)
    return f"| {cells[0]} | {cells[1]} |"


def interfaces() -> Iterator[tuple[str, str]]:
    """Yield the OpenAPI document of every central service."""
    with tempfile.TemporaryDirectory() as folder:
        context = Context(Home(Path(folder)))
        for name, wiring in WIRING.items():
            service = import_module(wiring).build(context)
            for door in service.listeners:
                document = door.app.openapi()  # type: ignore[attr-defined] # FastAPI by rule
                text = json.dumps(document, indent=1, sort_keys=True)
                yield f"openapi/{name}.json", text.replace(folder, "") + "\n"
                break
        for name, service in _of_a_site(context).items():
            document = service.listeners[0].app.openapi()  # type: ignore[attr-defined] # FastAPI by rule
            yield f"openapi/{name}.json", json.dumps(document, indent=1, sort_keys=True) + "\n"


def _of_a_site(context: Context) -> dict[str, Service]:
    """Return both hops of interLink at a site."""
    ground = Ground(NoRuntime("not needed"), isolated=False, network="none")
    images = ImageStore([], context.home.root)
    foundation = SiteFoundation(MockSite(MockSettings()), ground, images)
    return {
        "interlink": build_api(context, SITE),
        "interlink-plugin": build_plugin(context, SITE, foundation),
    }


def main(argv: list[str]) -> int:
    """Write or check all pages."""
    stale = []
    for name, text in pages():
        path = REFERENCE / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale and "--check" in argv:
        sys.stdout.write(f"stale: {', '.join(stale)}; run make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
