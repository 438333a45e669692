"""What a machine is, from what its kernel says."""

import pytest

from twinfra.compute.containers.machine import architecture, cpu_level, flags_of, this_machine

V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


def cpuinfo(*each):
    return "".join(f"processor\t: {n}\nflags\t\t: fpu {words}\n\n" for n, words in enumerate(each))


@pytest.mark.story("Nodes publish real os, architecture and CPU level")
@pytest.mark.parametrize(
    ("processors", "level"),
    [
        ([""], "x86-64-v1"),
        ([V2], "x86-64-v2"),
        ([V3], "x86-64-v3"),
        ([V4], "x86-64-v4"),
        ([V4, V2], "x86-64-v2"),
        ([V4.replace("movbe ", "").replace(" movbe", "")], "x86-64-v2"),
        ([], ""),
    ],
)
def test_the_level_is_the_highest_that_every_processor_reaches(processors, level):
    assert cpu_level(flags_of(cpuinfo(*processors))) == level


def test_architectures_are_spelt_as_images_spell_them():
    spelt = [architecture(name) for name in ("x86_64", "aarch64", "riscv64")]
    assert spelt == ["amd64", "arm64", "riscv64"]


def test_no_level_is_told_without_proc(tmp_path):
    assert this_machine(tmp_path / "none").cpu_level == ""
