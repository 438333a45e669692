"""Lines out of CRI logs."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.compute.containers.keeper.model import (
    ContainerStatus,
    PodState,
    Running,
    Terminated,
    Waiting,
)
from twinfra.compute.containers.logs import (
    Assembler,
    LogQuery,
    all_written,
    assemble,
    cut,
    follow,
    read_log,
    select,
)


def at(second):
    return f"2026-01-01T00:00:{second:02d}.000000000Z"


def record(second, text, tag="F", stream="stdout"):
    return f"{at(second)} {stream} {tag} {text}\n".encode()


def test_pieces_are_joined_and_streams_kept_apart():
    records = [
        record(1, "a", "P"),
        record(2, "x", "P", "stderr"),
        record(3, "b", "P"),
        record(4, "c"),
        record(5, "y", "F", "stderr"),
    ]
    assert list(assemble(records)) == [(at(1).encode(), b"abc"), (at(2).encode(), b"xy")]


def test_a_record_under_way_is_left_for_later():
    assert list(assemble([record(1, "a"), b"2026-01-01T00:00:02"])) == [(at(1).encode(), b"a")]


def test_an_empty_line_is_a_line():
    assert Assembler().add(record(1, "")) == (at(1).encode(), b"")


def test_since_and_timestamps():
    entries = [(at(second).encode(), b"%d" % second) for second in (1, 2, 3)]
    since = LogQuery("c", since=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC))
    assert list(select(entries, since)) == [b"2\n", b"3\n"]
    stamped = list(select(entries, LogQuery("c", timestamps=True)))
    assert stamped[0] == at(1).encode() + b" 1\n"


@given(st.lists(st.binary(max_size=9)), st.integers(0, 40))
def test_a_limit_cuts_at_exactly_that_many_bytes(lines, limit):
    assert b"".join(cut(lines, limit)) == b"".join(lines)[:limit]


def test_both_halves_of_a_log_are_read(tmp_path):
    (tmp_path / "0.log.1").write_bytes(record(1, "old"))
    (tmp_path / "0.log").write_bytes(record(2, "new"))
    assert list(read_log(tmp_path / "0.log", LogQuery("c"))) == [b"old\n", b"new\n"]


async def test_follow_goes_over_to_the_new_file_after_a_rotation(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(record(1, "one"))
    steps = iter(
        [
            lambda: path.write_bytes(record(1, "one") + record(2, "two")),
            lambda: (path.rename(tmp_path / "0.log.1"), path.write_bytes(record(3, "three"))),
            lambda: None,
        ]
    )

    def over():
        step = next(steps, None)
        if step is not None:
            step()
        return step is None

    seen = [line async for line in follow(path, LogQuery("c"), over)]
    assert seen == [b"one\n", b"two\n", b"three\n"]


async def test_follow_gives_what_was_written_just_before_the_end(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(record(1, "one"))

    def over():
        path.write_bytes(record(1, "one") + record(2, "last"))
        return True

    seen = [line async for line in follow(path, LogQuery("c"), over)]
    assert seen == [b"one\n", b"last\n"]


ENDED = Terminated(0, "Completed", "", "")


@pytest.mark.parametrize(
    ("run", "state", "whole"),
    [
        (0, {"waiting": Waiting("ContainerCreating")}, False),
        (0, {"running": Running("")}, False),
        (0, {"terminated": ENDED}, True),
        (0, {"waiting": Waiting("CrashLoopBackOff"), "last_terminated": ENDED}, True),
        (1, {"terminated": ENDED}, False),
        (1, {"running": Running(""), "last_terminated": ENDED, "restart_count": 1}, False),
    ],
)
def test_a_log_is_whole_when_its_run_of_the_container_has_ended(tmp_path, run, state, whole):
    statuses = (ContainerStatus("other", terminated=ENDED), ContainerStatus("c", **state))
    pod = PodState("uid", 1, 1, "Running", statuses)
    assert bool(all_written(tmp_path / "c" / f"{run}.log", pod)) is whole
