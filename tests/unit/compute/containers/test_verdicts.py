"""How a run went, from all that is known of its end."""

import pytest

from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.containers.keeper.verdict import End, judge

PLAIN = Launch(("bwrap",), ("x",), failure_prefix="bwrap: ")
TRACED = Launch(
    ("proot",), ("x",), traced=True,
    exit_note=(
        r"pid (?P<pid>\d+): "
        r"(?:exited with status (?P<status>\d+)|terminated with signal (?P<signal>\d+))"
    ),
)  # fmt: skip


def end(code, **fields):
    return End(code, "began", "ended", **fields)


@pytest.mark.parametrize(
    ("ended", "code", "reason", "signal"),
    [
        (end(0), 0, "Completed", None),
        (end(3), 3, "Error", None),
        (end(139), 139, "Error", 11),
        (end(255), 255, "Error", None),
        (end(137, starved=True), 137, "OOMKilled", 9),
        (end(0, starved=True), 0, "Completed", None),
        (end(143, stop_reason="DeadlineExceeded"), 143, "DeadlineExceeded", 15),
        (end(0, stop_reason="Cancelled"), 0, "Completed", None),
        (end(137, starved=True, stop_reason="Cancelled"), 137, "OOMKilled", 9),
        (end(1, error_tail="a\nbwrap: execvp x: no"), 128, "StartError", None),
        (end(1, error_tail="says bwrap: no"), 1, "Error", None),
    ],
)
def test_reason_and_code_follow_from_the_end(ended, code, reason, signal):
    found = judge(PLAIN, ended)
    assert (found.exit_code, found.reason, found.signal) == (code, reason, signal)


@pytest.mark.parametrize(
    ("code", "inner", "notes", "expected"),
    [
        (0, 7, ("pid 8: exited with status 0", "pid 7: terminated with signal 11"), 139),
        (5, 7, ("pid 7: exited with status 3", "pid 8: exited with status 5"), 3),
        (0, None, ("pid 9: exited with status 0", "pid 7: exited with status 2"), 2),
        (4, 7, (), 4),
    ],
)
def test_the_own_process_counts_when_a_tracer_reports_the_last(code, inner, notes, expected):
    assert judge(TRACED, end(code, inner=inner, notes=notes)).exit_code == expected


def test_a_kill_is_a_kill_whatever_the_tracer_reports():
    assert judge(TRACED, end(0, killed=True, inner=1)).exit_code == 137
