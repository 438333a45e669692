"""What the log says where Slurm has no nodes for us, or says nothing at all."""

import pytest

from twinfra.compute.sites.slurm.nodes import Nodes
from twinfra.core.errors import SiteRejected, Unavailable

NODE = "n1 0/4/0/4 4000 0 (null) gpu:0 idle"


class Commands:
    """Says each of `answers` in turn, the last for ever."""

    def __init__(self, *answers):
        self.answers, self.argv = list(answers), ()

    async def run(self, *argv):
        self.argv = argv
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def events(log_lines):
    return [(line["event"], line["detail"]) for line in log_lines()]


async def test_a_partition_without_nodes_is_said_once_until_it_has_some(log_lines):
    commands = Commands("", "\n", NODE, "")
    nodes = Nodes(commands, "batch")
    said = ("slurm_without_nodes", "sinfo shows no node of partition batch")
    for expected in ([said], [said], [said], [said, said]):
        await nodes.read()
        assert events(log_lines) == expected
    assert "--partition=batch" in commands.argv


@pytest.mark.parametrize("error", [Unavailable("no controller"), SiteRejected("no configuration")])
async def test_a_slurm_that_is_away_is_said_once_with_its_own_words(log_lines, error):
    nodes = Nodes(Commands(error), "")
    for _ in range(3):
        with pytest.raises(Unavailable, match=error.detail):
            await nodes.read()
    assert events(log_lines) == [("slurm_not_available", error.detail)]
    assert (await Nodes(Commands(NODE), "").read()) == NODE
