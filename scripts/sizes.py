"""Print what stands above the house's aims of size: a report to read, not a gate."""

import ast
import sys
from pathlib import Path

FILE_LINES, TEST_LINES, FUNCTION_LINES, MODULES = 400, 500, 60, 15
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Walk the tree and print a line for each thing that is too large."""
    rows = []
    for folder, limit in ((ROOT / "src", FILE_LINES), (ROOT / "tests", TEST_LINES)):
        for path in sorted(folder.rglob("*.py")):
            lines = path.read_text().splitlines()
            name = path.relative_to(ROOT)
            if len(lines) > limit:
                rows.append(f"{name}: {len(lines)} lines (limit {limit})")
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or node.lineno) - node.lineno + 1
                    if length > FUNCTION_LINES:
                        rows.append(f"{name}:{node.lineno} {node.name}: {length} lines")
    for folder in sorted({path.parent for path in (ROOT / "src").rglob("*.py")}):
        count = len(list(folder.glob("*.py")))
        if count > MODULES:
            rows.append(f"{folder.relative_to(ROOT)}: {count} modules (limit {MODULES})")
    sys.stdout.write("\n".join(rows or ["everything is within the aims"]) + "\n")


if __name__ == "__main__":
    main()
