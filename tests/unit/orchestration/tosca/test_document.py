"""Documents become trees that know their places; hostile ones are refused unread."""

import time

import pytest

from twinfra.orchestration.tosca import Limits, TemplateErrors, parse
from twinfra.orchestration.tosca.document import load, scalar


def refusal(text: str, limits: Limits | None = None) -> TemplateErrors:
    with pytest.raises(TemplateErrors) as caught:
        load(text, limits or Limits())
    return caught.value


def test_places_point_at_keys_when_a_mapping_is_read() -> None:
    tree = load("a:\n  b: [x, {c: 1}]\n", Limits())
    inner = tree.value["a"].value["b"].value[1].value["c"]
    assert (inner.line, inner.column, inner.path, inner.value) == (2, 11, "a.b[1].c", 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("true", True),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("~", None),
        ("12:30", "12:30"),
        (".nan", ".nan"),
        ("9" * 40, "9" * 40),
    ],
)
def test_scalar_follows_yaml_1_2_when_it_is_plain(text: str, value: object) -> None:
    assert scalar(text) == value
    assert load(f"a: {text}", Limits()).plain() == {"a": value}


def test_text_stays_text_when_it_is_quoted_or_tagged() -> None:
    document = 'a: "1"\nb: !!str 2\nc: |\n  3\n'
    assert load(document, Limits()).plain() == {"a": "1", "b": "2", "c": "3\n"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "the document is empty"),
        ("a: [1\n", 2, "not valid YAML"),
        ("a: 1\na: 2\n", 2, "the key 'a' stands here twice"),
        ("a: !!python/object:os.system x", 1, "is not accepted"),
        ("a: !!binary aGk=", 1, "is not accepted"),
        ("? [a]\n: 1\n", 1, "a key is a list or mapping"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: *nowhere", 1, "not valid YAML"),
        ("a: \x07", 1, "not valid YAML"),
        ("a: \ud800", 1, "half a surrogate pair"),
        ("<<: 3\n", 1, "<< merges mappings only"),
        ("a: &x [*x]", 1, "an alias stands inside its own anchor"),
    ],
)
def test_document_is_refused_when_it_is_no_plain_yaml(text: str, line: int, message: str) -> None:
    error = refusal(text)
    assert message in error.problems[0].message
    assert error.problems[0].line == line


def test_document_is_refused_when_it_is_too_large() -> None:
    assert "bytes are more than" in refusal("a: " + "x" * 2_000_000).detail


def test_document_is_refused_when_it_nests_too_deep() -> None:
    assert "levels are nested" in refusal("[" * 20_000).detail


def test_document_is_refused_when_aliases_multiply_it() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    began = time.monotonic()
    assert "values once aliases are followed" in refusal(bomb).detail
    assert time.monotonic() - began < 5


def test_merge_bomb_is_refused_when_keys_multiply() -> None:
    bomb = "a0: &a0 {k: [1, 2, 3]}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 12)
    )
    assert "values once aliases are followed" in refusal(bomb).detail


HEAD = "tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template:\n  node_templates:\n"


def chain(function: str, length: int) -> str:
    """Each node's image is made of the next one's."""
    return HEAD + "".join(
        f"    n{index}: {{type: tosca.nodes.twinfra.Job,"
        f" properties: {{image: {function % (index + 1)}}}}}\n"
        for index in range(length)
    )


def test_chain_of_properties_is_refused_when_it_is_too_long() -> None:
    last = "    n600: {type: tosca.nodes.twinfra.Job, properties: {image: y}}\n"
    with pytest.raises(TemplateErrors) as caught:
        parse(chain("{concat: [{get_property: [n%d, image]}, x]}", 600) + last)
    assert any("too deep" in each.message for each in caught.value.problems)


@pytest.mark.parametrize("last", ["x", "{get_attribute: [SELF, uid]}"])
def test_doubling_text_is_refused_when_it_would_explode(last: str) -> None:
    doubled = "{concat: [{get_property: [n%d, image]}, {get_property: [n%d, image]}]}"
    rows = "".join(
        f"    n{i}: {{type: tosca.nodes.twinfra.Job, properties: "
        f"{{image: {doubled % (i + 1, i + 1)}}}}}\n"
        for i in range(25)
    )
    final = f"    n25: {{type: tosca.nodes.twinfra.Job, properties: {{image: {last}}}}}\n"
    began = time.monotonic()
    with pytest.raises(TemplateErrors) as caught:
        parse(HEAD + rows + final)
    expected = {"this text grows too long", "this text is put together from too many parts"}
    assert expected & {each.message for each in caught.value.problems}
    assert time.monotonic() - began < 5


def test_pattern_is_matched_quickly_when_it_would_make_others_backtrack() -> None:
    text = (
        "tosca_definitions_version: tosca_simple_yaml_1_3\n"
        "topology_template:\n"
        '  inputs: {a: {type: string, constraints: [{pattern: "(a+)+b"}]}}\n'
    )
    began = time.monotonic()
    with pytest.raises(TemplateErrors):
        parse(text, {"a": "a" * 100_000})
    assert time.monotonic() - began < 2


def test_refusal_is_quick_when_thousands_of_names_are_wrong() -> None:
    declared = "".join(f"    given{index}: {{type: string, default: x}}\n" for index in range(1500))
    text = "tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template:\n  inputs:\n"
    began = time.monotonic()
    with pytest.raises(TemplateErrors):
        parse(text + declared, {f"given{index}x": 1 for index in range(5000)})
    assert time.monotonic() - began < 5
