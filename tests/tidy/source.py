"""The source tree as the tidy tests read it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "twinfra"


def python_files(*folders: Path) -> list[Path]:
    """Return all Python files below `folders`, ours only."""
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


def place(path: Path, node: ast.stmt | ast.expr | ast.arg) -> str:
    """Return ``file:line`` below the root."""
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def walk(path: Path) -> Iterator[ast.AST]:
    """Yield every node of a file."""
    yield from ast.walk(tree(path))
