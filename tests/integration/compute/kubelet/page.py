"""A how-to page as its reader takes it: what to replace, what to write, what to type."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \|$", re.MULTILINE)
NAMED = re.compile(r"# (~/\S+)\n")
BEGINS = "--- block "


@dataclass(frozen=True)
class Block:
    """A fenced block; one whose first line is ``# ~/PATH`` is that file, ``sh`` is typed."""

    language: str
    text: str

    @property
    def path(self):
        named = NAMED.match(self.text)
        return named[1] if named and self.language != "sh" else None


class Page:
    """A page whose table under "Write your own in place of these" names the placeholders."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")

    @property
    def placeholders(self):
        table = self.text.partition("Write your own in place of these")[2].partition("\n## ")[0]
        return set(ROW.findall(table))

    def blocks(self, own):
        """Return the blocks with `own` words in place of the page's."""
        text = self.text
        for word, mine in own.items():
            text = text.replace(word, mine)
        return [Block(*found) for found in FENCE.findall(text)]

    def script(self, own):
        """Return what a reader's shell is given, and the text of each block that is typed.

        Files are written where the page writes them; before each typed block a line says which.
        """
        lines, typed = ["set -euo pipefail"], []
        for block in self.blocks(own):
            if block.path:
                lines += [f"cat >{block.path} <<'END-OF-FILE'", f"{block.text}END-OF-FILE"]
            elif block.language == "sh":
                lines += [f"echo; echo '{BEGINS}{len(typed)}'", block.text]
                typed.append(block.text)
        return "\n".join(lines), typed


def said(output, typed):
    """Return what each block said, by the first command of it."""
    parts = re.split(rf"^{BEGINS}\d+\n", output, flags=re.MULTILINE)[1:]
    return {text.splitlines()[0]: part.strip() for text, part in zip(typed, parts, strict=False)}
