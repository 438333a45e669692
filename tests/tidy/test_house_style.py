"""What the house style says and no other tool checks."""

import ast
import importlib.util
import re
import tokenize
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("source", Path(__file__).with_name("source.py"))
source = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(source)

SQL_MAY = re.compile(
    r"(/store(/|\.py$)|/migrations/|core/(database|sqlite|bus)\.py$|core/workflow/|/inventory/|/journal.py|testkit/)"
)
SAYS_NOTHING = {"utils", "helpers", "manager", "common", "misc", "util", "helper"}
QUANTITY_WITHOUT_UNIT = re.compile(
    r"(^|_)(duration|timeout|interval|delay|pause|wait|age|ttl|lifetime|elapsed|deadline|period|grace"
    r"|memory|disk|bandwidth|throughput|latency|temperature|capacity|usage|volume)$"
)


def files():
    return source.python_files(source.SOURCE)


def test_no_module_has_a_name_that_says_nothing():
    assert [p for p in files() if p.stem in SAYS_NOTHING or p.parent.name in SAYS_NOTHING] == []


def test_sql_stays_in_stores():
    found = []
    for path in files():
        if SQL_MAY.search(str(path)):
            continue
        for node in source.walk(path):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [source.place(path, node) for n in names if n.split(".")[0] == "sqlalchemy"]
    assert found == []


def test_log_events_are_literals_in_snake_case():
    found = []
    for path in files():
        for node in source.walk(path):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"log", "_log"}
                and node.func.attr in {"debug", "info", "warning", "error", "exception"}
            ):
                first = node.args[0] if node.args else None
                constant = isinstance(first, ast.Constant) and isinstance(first.value, str)
                if not constant or not re.fullmatch(r"[a-z][a-z0-9_]*", first.value):
                    found.append(source.place(path, node))
    assert found == []


def test_quantities_in_dataclasses_name_their_unit():
    found = []
    for path in files():
        if "/testkit/" in str(path) or "/keeper/" in str(path):
            continue
        for node in source.walk(path):
            if not (isinstance(node, ast.ClassDef) and _is_dataclass(node)):
                continue
            for field in node.body:
                if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                    continue
                numeric = ast.unparse(field.annotation) in {
                    "int", "float", "int | None", "float | None",
                }  # fmt: skip
                name = field.target.id
                if numeric and QUANTITY_WITHOUT_UNIT.search(name):
                    found.append(f"{source.place(path, field)} {name}")
    assert found == []


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


@pytest.mark.parametrize("mark", ["noqa", "type: ignore"])
def test_exceptions_from_the_rules_say_why(mark):
    found = []
    folders = [source.SOURCE, source.ROOT / "tests", source.ROOT / "examples"]
    for path in source.python_files(*folders):
        lines = path.read_text().splitlines()
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type != tokenize.COMMENT or not re.match(rf"#\s*{mark}", token.string):
                    continue
                rest = re.sub(
                    r"^#\s*(noqa|type: ignore)(:?\s*[A-Z0-9, ]+|\[[\w, -]+\])?", "", token.string
                )
                above = lines[token.start[0] - 2].strip() if token.start[0] > 1 else ""
                if len(rest.strip(" -#")) < 6 and not above.startswith("#"):
                    found.append(f"{path.relative_to(source.ROOT)}:{token.start[0]}")
    assert found == []


@pytest.mark.story("with `CI=true` a skip of a real server is a failure")
def test_no_test_is_skipped_or_expected_to_fail():
    found = []
    for path in source.python_files(source.ROOT / "tests"):
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"pytest\.(skip|xfail|importorskip)|mark\.(skip|skipif|xfail)", line):
                found.append(f"{path.relative_to(source.ROOT)}:{number}")
    assert found == []


def test_no_test_sleeps_and_hopes():
    found = []
    for path in source.python_files(source.ROOT / "tests"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "time.sleep(" in line and "# paced:" not in line:
                found.append(f"{path.relative_to(source.ROOT)}:{number}")
    assert found == []


@pytest.mark.story("Pinned, hashed requirements for installs, without any URL in them")
def test_no_package_address_and_no_path_of_a_machine_is_committed():
    found = []
    lock_files = [*source.ROOT.glob("requirements/*.txt"), *source.ROOT.rglob("package-lock.json")]
    lock_files += [*(source.ROOT / "tests" / "servers").rglob("requirements*.txt")]
    for path in lock_files:
        if ".venv" in path.parts or "node_modules" in path.parts:
            continue
        if re.search(
            r"index-url|\"resolved\"|https?://[^\s\"]*\.(whl|tgz|tar\.gz)", path.read_text()
        ):
            found.append(path)
    assert found == []


def test_every_package_says_what_it_is_for():
    found = []
    for path in files():
        if path.name == "__init__.py" and "migrations" not in path.parts:
            text = ast.get_docstring(source.tree(path))
            if not text:
                found.append(path)
    assert found == []
