"""What ``twinfra deploy`` makes of the values that it is given for a template's inputs."""

import pytest

from twinfra.cli.deploy import read_text, read_values
from twinfra.core.errors import InvalidRequest

TEMPLATE = """\
topology_template:
  inputs:
    version: {type: string}
    years: {type: integer}
    names: {type: list}
"""


def test_text_stays_text_and_the_rest_is_yaml_when_given_one_by_one():
    pairs = ["version=1.10", "years=5", "names=[a, b]", "other=a=b"]
    found = read_values(TEMPLATE, None, pairs)
    assert found == {"version": "1.10", "years": 5, "names": ["a", "b"], "other": "a=b"}


def test_single_values_win_over_the_file(tmp_path):
    (tmp_path / "values.json").write_text('{"years": 3, "version": "2"}')
    found = read_values(TEMPLATE, tmp_path / "values.json", ["years=4"])
    assert found == {"years": 4, "version": "2"}


@pytest.mark.parametrize("template", ["", "[", "5", "topology_template: 5", "{inputs: [1]}"])
def test_values_are_yaml_when_the_template_is_malformed(template):
    assert read_values(template, None, ["a=1"]) == {"a": 1}


@pytest.mark.parametrize("pair", ["years", "=5", "years={"])
def test_a_pair_is_refused_when_it_is_malformed(pair):
    with pytest.raises(InvalidRequest):
        read_values(TEMPLATE, None, [pair])


@pytest.mark.parametrize("body", [b"[1]", b"\xff\xfe\x00", b"{", b""])
def test_a_file_of_values_is_refused_when_it_holds_no_mapping(tmp_path, body):
    (tmp_path / "values.yaml").write_bytes(body)
    with pytest.raises(InvalidRequest):
        read_values(TEMPLATE, tmp_path / "values.yaml", [])


def test_a_missing_file_is_a_refusal(tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_text(tmp_path / "nothing.yaml")
