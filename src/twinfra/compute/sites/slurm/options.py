"""What a pod may ask of Slurm itself: the annotation ``slurm-job.vk.io/flags``; pure.

Written as interLink's Slurm plug-in reads it: ``--time=1``, ``--time 1``, ``-t 1``, ``-t1``. Only
options of a list are taken, only values of plain characters: nothing here can become another
directive, a command or a file's name.

Source: sbatch(1); interLink's Slurm plug-in, flags of a pod.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping

from twinfra.core.errors import SiteRejected

PREFIX = "slurm-job.vk.io/"
FLAGS = PREFIX + "flags"

_WORD = r"[\w.,:/@%+=-]+"
_COUNT = r"[0-9]+"
KNOWN: Mapping[str, str | None] = {
    "time": r"[0-9]+(-[0-9]+)?(:[0-9]+){0,2}",
    "partition": r"\w[\w.,-]*",
    "account": r"\w[\w.-]*",
    "qos": r"\w[\w.-]*",
    "constraint": r"[\w.,:&|()*\[\]@-]+",
    "prefer": r"[\w.,:&|()*\[\]@-]+",
    "reservation": r"\w[\w.,-]*",
    "licenses": _WORD,
    "gres": r"[\w.,:-]+",
    "cpus-per-task": _COUNT,
    "threads-per-core": _COUNT,
    "mem": r"[0-9]+[KMGT]?",
    "tmp": r"[0-9]+[KMGT]?",
    "nice": r"-?[0-9]+",
    "exclusive": None,
    "hint": r"[a-z_,]+",
    "begin": r"[\w:+-]+",
    "deadline": r"[\w:+-]+",
    "nodelist": r"[\w.,\[\]-]+",
    "exclude": r"[\w.,\[\]-]+",
    "switches": r"[0-9]+(@[0-9:-]+)?",
    "wckey": r"\w[\w.-]*",
    "cluster-constraint": r"!?[\w.,-]+",
}
"""Options that a site may leave to pods, and the values that they take; None takes none."""

ALIASES: Mapping[str, str] = {
    "A": "account", "C": "constraint", "L": "licenses", "c": "cpus-per-task", "p": "partition",
    "q": "qos", "t": "time", "w": "nodelist", "x": "exclude", "b": "begin",
}  # fmt: skip


def read_options(annotations: Mapping[str, str], allowed: Collection[str]) -> dict[str, str]:
    """Return the options that a pod asks for, by their long name; the last of a name wins.

    Args:
        annotations: of the pod.
        allowed: names that this site leaves to pods.

    Raises:
        SiteRejected: an option is not allowed, not known or malformed, or another annotation of
            Slurm's is set, which cannot be honoured; the text names it.
    """
    for name in annotations:
        if name.startswith(PREFIX) and name != FLAGS:
            raise SiteRejected(f"annotation {name} is not honoured at this site")
    try:
        words = iter(shlex.split(annotations.get(FLAGS, "")))
    except ValueError as error:
        raise SiteRejected(f"annotation {FLAGS}: {error}") from error
    found: dict[str, str] = {}
    for word in words:
        name, value = _option(word, words)
        if name not in allowed:
            raise SiteRejected(f"annotation {FLAGS}: {_shown(name)} is not allowed at this site")
        pattern = KNOWN[name]
        if pattern is not None and not re.fullmatch(pattern, value, re.ASCII):
            raise SiteRejected(f"annotation {FLAGS}: {_shown(value)} is no value of --{name}")
        found[name] = value
    return found


def _option(word: str, rest: Iterator[str]) -> tuple[str, str]:
    """Return long name and value of the option at hand; takes its value from `rest` if apart."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
    elif word.startswith("-") and len(word) > 1:
        name, value = ALIASES.get(word[1], word[1]), word[2:].removeprefix("=")
        equals = value
    else:
        raise SiteRejected(f"annotation {FLAGS}: {_shown(word)} is no option")
    if name not in KNOWN:
        raise SiteRejected(f"annotation {FLAGS}: {_shown(name)} is not allowed at this site")
    takes_value = KNOWN[name] is not None
    if equals and not takes_value:
        raise SiteRejected(f"annotation {FLAGS}: --{name} takes no value")
    if takes_value and not equals:
        value = next(rest, "")
    return name, value


def _shown(text: str) -> str:
    return repr(text[:64])


def seconds(spelled: str) -> float:
    """Return a time limit in seconds.

    Source: sbatch(1), ``--time``: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
    days-hours:minutes, days-hours:minutes:seconds.
    """
    days, dash, rest = spelled.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        units: tuple[int, ...] = (3600, 60, 1)
    else:
        units = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}[len(parts)]
    clock = sum(part * unit for part, unit in zip(parts, units, strict=False))
    return float(int(days or 0) * 86400 + clock)


def mebibytes(spelled: str) -> int:
    """Return an amount of memory in MiB, rounded up; a bare number is MiB."""
    number = int(spelled.rstrip("KMGT"))
    return {"K": -(-number // 1024), "G": number * 1024, "T": number * 1024**2}.get(
        spelled[-1], number
    )
