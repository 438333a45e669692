"""What this machine is, spelt as images and Kubernetes spell it.

Source: OCI image-spec 1.1, image index, ``platform``; x86-64 psABI §3.1.1 (micro-architecture
levels); the kernel's names of its flags, ``arch/x86/include/asm/cpufeatures.h``.
"""

import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
"""What the kernel calls an architecture, and what images call it."""
KERNEL_NAMES = {spelled: name for name, spelled in ARCHITECTURES.items()}
LEVELS = (
    ("x86-64-v2", frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})),
    ("x86-64-v3", frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})),
    ("x86-64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
)
"""What each level needs besides the one before it."""


@dataclass(frozen=True)
class Machine:
    """What programs must be made for to run here; empty where nobody knows.

    Attributes:
        os: such as ``linux``.
        architecture: such as ``amd64``.
        cpu_level: such as ``x86-64-v3``.
    """

    os: str = ""
    architecture: str = ""
    cpu_level: str = ""


def architecture(kernel_name: str = "") -> str:
    """Return an architecture, by default this machine's, as OCI spells it."""
    name = kernel_name or platform.machine()
    return ARCHITECTURES.get(name, name)


def this_machine(cpuinfo: Path = CPUINFO) -> Machine:
    """Return what this machine is."""
    made_for = architecture()
    try:
        level = cpu_level(flags_of(cpuinfo.read_text())) if made_for == "amd64" else ""
    except OSError:
        level = ""
    return Machine(platform.system().lower(), made_for, level)


def flags_of(cpuinfo: str) -> frozenset[str]:
    """Return what every processor of ``/proc/cpuinfo`` can."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    each = [frozenset(words.split()) for name, _, words in lines if name.strip() == "flags"]
    return frozenset.intersection(*each) if each else frozenset()


def cpu_level(flags: Collection[str]) -> str:
    """Return the highest level that the flags reach; empty without any flags."""
    found = "x86-64-v1" if flags else ""
    for name, needed in LEVELS:
        if not needed.issubset(flags):
            break
        found = name
    return found
