"""The body of a third-party copy: performance markers, then one line that is the truth.

Source: the HTTP-TPC convention of WLCG; the status line comes before the outcome, so that only the
last line (``success:``, ``failure:`` or ``aborted:``) says what became of the copy.
"""

from dataclasses import dataclass, field

_BYTES = "stripe bytes transferred:"
_INDEX = "stripe index:"


@dataclass
class MarkerReader:
    """Reads the body line by line.

    Attributes:
        transferred_bytes: the sum over all stripes so far; it never shrinks.
        outcome: ``success``, ``failure`` or ``aborted`` once the final line came, else none.
        text: what the final line says.
    """

    transferred_bytes: int = 0
    outcome: str | None = None
    text: str = ""
    _stripes: dict[int, int] = field(default_factory=dict)
    _stripe: int = 0

    def feed(self, line: str) -> bool:
        """Take one line; says whether a marker just ended."""
        stripped = line.strip()
        lowered = stripped.lower()
        if lowered.startswith(_INDEX):
            self._stripe = _number(stripped, self._stripe)
        elif lowered.startswith(_BYTES):
            self._stripes[self._stripe] = _number(stripped, 0)
        elif lowered == "end":
            self.transferred_bytes = max(self.transferred_bytes, sum(self._stripes.values()))
            self._stripe = 0
            return True
        else:
            self._final(stripped, lowered)
        return False

    def _final(self, stripped: str, lowered: str) -> None:
        for outcome in ("success", "failure", "aborted"):
            if lowered.startswith(outcome):
                self.outcome = outcome
                self.text = stripped.partition(":")[2].strip() or outcome


def _number(line: str, otherwise: int) -> int:
    text = line.partition(":")[2].strip()
    return int(text) if text.isdecimal() else otherwise
