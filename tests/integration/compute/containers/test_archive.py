"""The keeper as one file."""

import subprocess
import sys
import zipfile

from twinfra.compute.containers.archive import build_keeper, keeper_python


def test_the_same_sources_give_the_same_file(tmp_path):
    one = build_keeper(tmp_path / "a" / "keeper.pyz")
    two = build_keeper(tmp_path / "b" / "keeper.pyz")
    assert one.read_bytes() == two.read_bytes()
    assert [path.name for path in one.parent.iterdir()] == ["keeper.pyz"]


def test_sources_and_byte_code_travel_together(tmp_path):
    names = zipfile.ZipFile(build_keeper(tmp_path / "k.pyz")).namelist()
    assert "__main__.py" in names
    assert "twinfra_keeper/pod.py" in names
    assert "twinfra_keeper/pod.pyc" in names


def test_it_runs_with_both_interpreters_and_explains_itself(tmp_path):
    keeper = build_keeper(tmp_path / "k.pyz")
    for python in (keeper_python(), sys.executable):
        done = subprocess.run(
            [python, "-I", "-S", "-B", keeper],
            check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=20,
        )  # fmt: skip
        assert done.returncode == 2
        assert b"usage" in done.stderr


def test_a_missing_plan_is_told(tmp_path):
    keeper = build_keeper(tmp_path / "k.pyz")
    done = subprocess.run(
        [keeper_python(), "-I", "-S", "-B", keeper, tmp_path],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"no plan" in done.stderr
