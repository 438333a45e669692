"""Frames of sessions, sizes of terminals, and what a sandbox command says of itself."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.compute.containers.keeper import channels, terminal
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.containers.keeper.sieve import Sieve

NOISY = Launch(
    ("proot",), ("sh",), preamble="hello\n", noise=r"note: [^\n]*\n", noise_head="note: "
)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50))), st.integers(1, 9))
def test_frames_come_whole_however_the_stream_is_cut(messages, step):
    stream = b"".join(channels.frame(channel, body) for channel, body in messages)
    decoder = channels.Decoder()
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert [message for piece in pieces for message in decoder.feed(piece)] == messages


def test_a_frame_is_refused_when_it_claims_too_much():
    with pytest.raises(channels.FrameError):
        channels.Decoder().feed(b"\x00\xff\xff\xff\xff")


def test_a_status_is_spelled_as_kubernetes_does():
    assert json.loads(channels.ended(0)) == {"metadata": {}, "status": "Success"}
    failure = json.loads(channels.ended(3))
    assert failure["details"] == {"causes": [{"reason": "ExitCode", "message": "3"}]}
    assert (failure["status"], failure["reason"]) == ("Failure", "NonZeroExitCode")


@given(st.integers(1, 40))
def test_only_the_containers_own_bytes_pass_however_the_stream_is_cut(step):
    stream = b"noise before\nhello\none\nnote: 1 ended\ntwonote: 2 ended\nthree no"
    sieve = Sieve(NOISY)
    passed = b"".join(sieve.feed(stream[at : at + step]) for at in range(0, len(stream), step))
    assert passed + sieve.end() == b"one\ntwothree no"
    assert list(sieve.notes) == ["note: 1 ended\n", "note: 2 ended\n"]


def test_a_prompt_passes_at_once_when_its_line_has_not_ended():
    sieve = Sieve(NOISY)
    assert sieve.feed(b"hello\n$ ") == b"$ "
    assert sieve.feed(b"no") == b""
    assert sieve.feed(b"w") == b"now"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"Width": 80}', b'{"Width": 0, "Height": 1}',
     b'{"Width": 70000, "Height": 24}', b'{"Width": "x", "Height": 24}', b"\xff"],
)  # fmt: skip
def test_a_size_is_refused_when_it_is_none(body):
    with pytest.raises(ValueError):  # noqa: PT011 - the class is the point
        terminal.parse_size(body)


def test_keys_mean_signals_only_where_the_terminal_says_so():
    ours, theirs = terminal.open_terminal()
    assert terminal.keys(ours, b"a\x03b\x1a") == [2, 20]
    import tty

    tty.setraw(theirs)
    assert terminal.keys(ours, b"\x03") == []
    terminal.resize(ours, 132, 43)
    assert os.get_terminal_size(theirs) == (132, 43)
    os.close(ours)
    os.close(theirs)
