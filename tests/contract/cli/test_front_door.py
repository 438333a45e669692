"""What stands at the door: the command's help and completion, make's targets, the gate's table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TARGETS = ("help", "install", "demo", "up", "test", "test-fast", "check", "fix", "tidy", "bench",
           "docs")  # fmt: skip
HEAVY = ("sqlalchemy", "alembic", "nats", "uvicorn", "fastapi", "sklearn")


def run(*argv, cwd=ROOT, **environment):
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, text=True,
        capture_output=True, check=False, timeout=100,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def twinfra(*words, **environment):
    return run(Path(sys.executable).with_name("twinfra"), *words, **environment)


def toy(folder, name, text):
    """Put a command of ours before the real one."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.story("`twinfra --help` answers in under 200 ms (lazy imports; kept by a benchmark)")
def test_help_names_every_command_and_loads_none():
    code = "import sys; sys.argv = ['twinfra', '--help']; import twinfra.cli.main as door\n"
    code += "try: door.main()\nexcept SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    done = run(sys.executable, "-c", code)
    for name in ("up", "deploy", "dataset", "rule", "usage"):
        assert f"  {name} " in done.stdout
    loaded = done.stderr
    for module in (*HEAVY, "aiohttp", "pydantic", "twinfra.cli.deploy"):
        assert f"'{module}'" not in loaded, module


@pytest.mark.parametrize("name", ["deploy", "rule", "ls", "usage"])
def test_a_command_of_a_client_loads_no_server(name):
    code = f"import sys, twinfra.cli.{name}; print([m for m in {HEAVY} if m in sys.modules])"
    done = run(sys.executable, "-c", code)
    found = set(json.loads(done.stdout.replace("'", '"')))
    assert found <= ({"sqlalchemy", "alembic", "nats"} if name == "usage" else set())


@pytest.mark.story("CLI `twinfra` with shell completion")
def test_the_shell_gets_its_script_and_completes_commands():
    script = twinfra(_TWINFRA_COMPLETE="source_bash")
    assert "complete " in script.stdout
    asked = {"_TWINFRA_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert twinfra(COMP_WORDS="twinfra dep", **asked).stdout.split() == ["deploy"]
    asked["COMP_CWORD"] = "2"
    found = twinfra(COMP_WORDS="twinfra deploy cr", **asked).stdout.split()
    assert found == ["create"]


@pytest.mark.story("`twinfra settings show` prints each value and where it came from")
def test_settings_are_shown_with_their_origin(tmp_path):
    (tmp_path / "settings.toml").write_text("[monitoring]\nprobe_interval_s = 5\n")
    environment = {"TWINFRA_HOME": str(tmp_path), "TWINFRA_EDGE__FSYNC": "none"}
    lines = twinfra("settings", "show", **environment).stdout.splitlines()
    assert any(line.startswith("monitoring.probe_interval_s = 5") for line in lines)
    found = json.loads(twinfra("settings", "show", "--json", **environment).stdout)
    rows = {row["name"]: row for row in found}
    assert "file" in rows["monitoring.probe_interval_s"]["origin"]
    assert "environment" in rows["edge.fsync"]["origin"]
    assert rows["accounting.page_limit"]["origin"] == "default"


def test_an_error_is_one_line_and_no_trace(tmp_path):
    done = twinfra("usage", TWINFRA_HOME=str(tmp_path / "nobody"))
    assert done.returncode == 2
    assert done.stderr.startswith("twinfra: ")


@pytest.mark.story("`make help|install|demo|up|test|test-fast|check|fix|tidy|bench|docs`")
def test_make_help_lists_every_target():
    done = run("make", "help")
    listed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("  make ")}
    assert listed >= set(TARGETS)


@pytest.mark.story(
    "`make demo` and `make test` install the Debian packages that they need when they are root"
    " (or have passwordless sudo), and say plainly what they skipped when not"
)
@pytest.mark.parametrize("who", ["root", "sudo", "nobody"])
def test_debian_packages_are_installed_or_named(tmp_path, who):
    toys, log = tmp_path / "bin", tmp_path / "log"
    toy(toys, "id", f"echo {0 if who == 'root' else 1000}")
    toy(toys, "dpkg-query", '[ "${@: -1}" = curl ] && echo installed; exit 0')
    toy(toys, "sudo", f'[ {who} = sudo ] || exit 1; shift; echo sudo >>{log}; "$@"')
    toy(toys, "apt-get", f'echo "$*" >>{log}')
    done = run("bash", "scripts/install-debian", PATH=f"{toys}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    if who == "nobody":
        assert "skipped, for want of root: " in done.stdout
        assert "bubblewrap" in done.stdout
        assert " curl" not in done.stdout.splitlines()[0]
        assert not log.exists()
        return
    written = log.read_text()
    assert " bubblewrap " in written
    assert ("sudo" in written) == (who == "sudo")


@pytest.mark.story("`.ci/run` calls `make check test` and prints a table of minutes per part")
@pytest.mark.parametrize("fails", ["", "check"])
def test_the_gate_prints_its_table_and_fails_when_a_part_does(tmp_path, fails):
    toys, log = tmp_path / "bin", tmp_path / "log"
    toy(toys, "make", f'echo "$* CI=$CI" >>{log}; [ "$1" != "{fails}" ]')
    done = run("bash", ".ci/run", PATH=f"{toys}:{os.environ['PATH']}", CI="")
    made = log.read_text()
    assert "install" in made
    assert "check CI=true" in made
    table = done.stdout.splitlines()
    head = next(line for line in table if line.startswith("part "))
    assert head.split() == ["part", "min", "share"]
    assert any(line.startswith("installs") and " 20 " in line for line in table)
    if fails:
        assert done.returncode == 1
        assert any("FAILED" in line for line in table)
    else:
        assert "test" in made
        assert done.returncode == 0
        assert not any("FAILED" in line for line in table)
