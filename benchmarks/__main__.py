"""``python -m benchmarks [NAME]``: run all benchmarks, or one such as ``cli/help``."""

import importlib
import sys
from pathlib import Path

from benchmarks.harness import write

HERE = Path(__file__).parent


def names() -> list[str]:
    """Return the names of all benchmarks: their files below this folder."""
    return sorted(
        str(path.relative_to(HERE).with_suffix("")).replace("_", "-")
        for path in HERE.glob("*/*.py")
        if path.stem != "__init__"
    )


def main(argv: list[str]) -> int:
    """Run what is asked for and write its results."""
    chosen = argv or names()
    if unknown := [name for name in chosen if name not in names()]:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(names())}")
        return 2
    for name in chosen:
        module = importlib.import_module("benchmarks." + name.replace("/", ".").replace("-", "_"))
        write(name, module.run())
    return 0


if __name__ == "__main__":
    sys.exit(main([name for name in sys.argv[1:] if name]))
