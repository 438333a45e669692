"""What is wrong with a template is said at once, each fault with its place."""

from typing import Any

import pytest

from twinfra.orchestration.tosca import Limits, TemplateErrors, TemplateProblem, parse

HEAD = "tosca_definitions_version: tosca_simple_yaml_1_3\n"
JOB = "{type: tosca.nodes.twinfra.Job, properties: {image: i}}"


def faults(text: str, inputs: dict[str, Any] | None = None) -> list[TemplateProblem]:
    with pytest.raises(TemplateErrors) as caught:
        parse(text, inputs)
    return list(caught.value.problems)


def messages(topology: str, inputs: dict[str, Any] | None = None) -> list[str]:
    body = "".join(f"  {line}\n" for line in topology.strip("\n").splitlines())
    return [each.message for each in faults(f"{HEAD}topology_template:\n{body}", inputs)]


def nodes(text: str) -> list[str]:
    return messages(f"node_templates:\n  {text}")


@pytest.mark.story(
    "A TOSCA template with an unknown type, a missing input, a cycle: refused at once, all"
    " errors with their lines"
)
def test_all_faults_come_with_their_lines_when_a_template_has_several() -> None:
    text = (
        HEAD
        + """\
topology_template:
  inputs:
    cpus: {type: integer}
  node_templates:
    a: {type: tosca.nodes.Compuet}
    b:
      type: tosca.nodes.Compute
      capabilities:
        host:
          properties: {mem_size: 512 MegaB, num_cpus: {get_input: cpus}}
"""
    )
    found = faults(text)
    assert [(each.line, each.path.rsplit(".", 1)[-1]) for each in found] == [
        (4, "cpus"),
        (6, "type"),
        (11, "mem_size"),
    ]
    assert "required input 'cpus'" in found[0].message
    assert "is tosca.nodes.Compute meant?" in found[1].message
    assert "'MegaB' is not one of the units B, kB" in found[2].message


def test_error_is_a_problem_of_status_400_when_a_template_is_refused() -> None:
    with pytest.raises(TemplateErrors) as caught:
        parse(HEAD + "topology_template: {node_templates: {a: {type: X}}}")
    error = caught.value
    assert (error.status, error.code) == (400, "invalid-template")
    assert error.detail.startswith("line 2, topology_template.node_templates.a.type: ")
    (entry,) = error.errors
    assert set(entry) == {"path", "line", "column", "message", "detail"}
    assert (entry["line"], entry["column"]) == (2, 42)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("", "tosca_definitions_version is missing"),
        ("tosca_definitions_version: tosca_2_0\n", "'tosca_2_0' is not one of"),
        ("tosca_definitions_version: 1.3\n", "1.3 is not one of"),
    ],
)
def test_version_is_refused_when_it_is_not_a_simple_profile(version: str, message: str) -> None:
    (fault,) = faults(version + "topology_template: {node_templates: {}}")
    assert message in fault.message


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        ("node_template: {}", "'node_template' has no meaning here; is 'node_templates' meant?"),
        ("inputs: []\nnode_templates: 3", "node_templates is a mapping"),
        ("inputs: {a: {default: 1}}", "the type is missing"),
        ("inputs: {a: {type: integr, default: 1}}", "the data type 'integr' is unknown"),
        ("inputs: {a: 3}", "this declaration is a mapping with a type"),
        ("outputs: {a: {}}", "the output 'a' has no value"),
        ("outputs: {a: {value: {get_operation_output: [a, b]}}}", "is not offered here"),
    ],
)
def test_section_is_refused_when_it_is_malformed(topology: str, expected: str) -> None:
    assert any(expected in each for each in messages(topology))


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("{type: integer}", "2", "'2' is not a whole number"),
        ("{type: integer}", True, "true is not a whole number"),
        ("{type: float}", "x", "'x' is not a number"),
        ("{type: boolean}", "yes", "'yes' is neither true nor false"),
        ("{type: string}", 4, "4 is not text"),
        ("{type: version}", "one", "'one' is not a version"),
        ("{type: timestamp}", "noon", "'noon' is not a time"),
        ("{type: range}", [4, 1], "a range goes from"),
        ("{type: scalar-unit.size}", 4, "4 is not a quantity with its unit"),
        ("{type: scalar-unit.time}", "3 weeks", "'weeks' is not one of the units d, h"),
        ("{type: list}", {"a": 1}, "is not a list"),
        ("{type: map}", [1], "is not a mapping"),
        ("{type: list, entry_schema: {type: integer}}", [1, "b"], "'b' is not a whole number"),
        ("{type: map, entry_schema: string}", {"a": 1}, "1 is not text"),
        ("{type: PortDef}", 70000, "70000 must be in the range [1, 65535]"),
        ("{type: PortSpec}", {"sorce": 1}, "'sorce' is not declared; is 'source' meant?"),
        ("{type: integer, constraints: [{in_range: [1, 4]}]}", 5, "5 must be in the range [1, 4]"),
        ("{type: integer, constraints: [{in_range: [1, UNBOUNDED]}]}", 0, "in the range"),
        ("{type: integer, constraints: [{valid_values: [1, 2]}]}", 3, "one of [1, 2]"),
        ("{type: integer, constraints: [{greater_than: 3}]}", 3, "must be greater than 3"),
        ("{type: integer, constraints: [{greater_or_equal: 3}]}", 2, "must be at least 3"),
        ("{type: integer, constraints: [{less_than: 3}]}", 3, "must be less than 3"),
        ("{type: integer, constraints: [{less_or_equal: 3}]}", 4, "must be at most 3"),
        ("{type: string, constraints: [{equal: a}]}", "b", "must be a"),
        ("{type: string, constraints: [{length: 2}]}", "abc", "must have the length 2"),
        ("{type: string, constraints: [{min_length: 4}]}", "abc", "must have at least 4"),
        ("{type: list, constraints: [{max_length: 1}]}", [1, 2], "must have at most 1"),
        ('{type: string, constraints: [{pattern: "[a-z]+"}]}', "a1", "must match '[a-z]+'"),
        ("{type: scalar-unit.size, constraints: [{less_than: 1 GiB}]}", "2 GB", "less than 1 GiB"),
        ("{type: range, constraints: [{in_range: [1, 9]}]}", [1, 10], "in the range [1, 9]"),
    ],
)
def test_input_is_refused_when_it_breaks_its_declaration(
    declared: str, value: Any, expected: str
) -> None:
    (message,) = messages(f"inputs: {{a: {declared}}}", {"a": value})
    assert expected in message


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("{in_rang: [1, 2]}", "'in_rang' is no constraint; is 'in_range' meant?"),
        ("{in_range: [1]}", "in_range wants a list of two"),
        ("{valid_values: 3}", "valid_values wants a list"),
        ("{less_than: x}", "'x' is not a whole number"),
        ('{pattern: "(?=a)"}', "needs look-around"),
        ('{pattern: "["}', "is wrong, too large"),
    ],
)
def test_constraint_is_refused_when_it_is_malformed(constraint: str, expected: str) -> None:
    found = messages(f"inputs: {{a: {{type: integer, default: 1, constraints: [{constraint}]}}}}")
    assert [each for each in found if expected in each]


def test_parameter_is_refused_when_the_template_does_not_declare_it() -> None:
    (message,) = messages("inputs: {years: {type: integer, default: 1}}", {"year": 2})
    assert message == "the template declares no input 'year'; is 'years' meant?"


def test_parameter_is_refused_when_it_is_no_plain_value() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    for value in (deep, {"a": object()}, list(range(11_000))):
        (message,) = messages("inputs: {a: {type: list}}", {"a": value})
        assert "not a plain JSON value, or too large" in message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a: {}", "the type of 'a' is missing"),
        ("a: 3", "a node template is a mapping"),
        ("a: {type: Compute, propertys: {}}", "'propertys' has no meaning here"),
        ("a: {type: BlockStorage, properties: {sizes: 1 GB}}", "'sizes' is not declared"),
        ("a: {type: tosca.nodes.Database, requirements: [{host: a}]}", "is no tosca.nodes.DBMS"),
        ("a: {type: tosca.nodes.SoftwareComponent}", "lacks its requirement 'host'"),
        ("a: {type: Compute, capabilities: {hots: {}}}", "no capability 'hots'; is 'host' meant?"),
        ("a: {type: Compute, requirements: [{hosst: b}]}", "has no requirement 'hosst'"),
        ("a: {type: Compute, requirements: [{dependency: b}]}", "there is no node 'b'"),
        ("a: {type: Compute, requirements: [{dependency: {}}]}", "names no node"),
        ("a: {type: Compute, requirements: [3]}", "each entry of this list is one name"),
        ("a: {type: Compute, requirements: [{dependency: Database}]}", "no node of the type"),
        (
            "a: {type: Compute, requirements: [{local_storage: {node: a, relationship: Ataches}}]}",
            "offers no capability 'tosca.capabilities.Attachment'",
        ),
        (
            "a: {type: Compute, requirements: [{dependency: {node: a, relationship: Depends}}]}",
            "the relationship type 'Depends' is unknown",
        ),
        (
            "a: {type: Compute, requirements: [{dependency: {node: a, node_filter: {}}}]}",
            "'node_filter' has no meaning here",
        ),
        ("a: {type: Compute, artifacts: {x: {type: y, file: z}}}", "artifact type 'y' is unknown"),
        ("a: {type: Compute, artifacts: {x: {type: y}}}", "the artifact names no file"),
        ("a: {type: tosca.nodes.twinfra.Job}", "'a' has no image"),
        ("a: {type: tosca.nodes.twinfra.Container}", "is abstract"),
        (
            "a: {type: tosca.nodes.twinfra.Job, properties: {image: i, inputs: [climate]}}",
            "'climate' must match",
        ),
        (
            "a: {type: tosca.nodes.twinfra.Job, properties: {image: i, env: {N: 4}}}",
            "4 is not text; quote it",
        ),
        ("a: {type: tosca.nodes.twinfra.Service, properties: {image: i}}", "'port' is required"),
    ],
)
def test_node_is_refused_when_it_breaks_its_type(body: str, expected: str) -> None:
    assert any(expected in each for each in nodes(body))


def test_requirement_is_refused_when_it_stands_too_often() -> None:
    software = "{type: SoftwareComponent, requirements: [{host: b}, {host: b}]}"
    (message,) = nodes(f"{{a: {software}, b: {{type: Compute}}}}")
    assert "the requirement 'host' stands 2 times, at most 1" in message


@pytest.mark.story(
    "A TOSCA template with an unknown type, a missing input, a cycle: refused at once, all"
    " errors with their lines"
)
def test_cycle_is_named_once_when_nodes_require_each_other() -> None:
    text = "".join(
        f"{name}: {{type: Compute, requirements: [{{dependency: {needs}}}]}}, "
        for name, needs in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "f"), ("f", "e")]
    )
    assert nodes(f"{{{text}}}") == [
        "these nodes require each other: a > b > c > a",
        "these nodes require each other: e > f > e",
    ]
    assert nodes("{a: {type: Compute, requirements: [{dependency: a}]}}") == [
        "these nodes require each other: a > a"
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{get_input: x}", "there is no input 'x'"),
        ("{get_input: []}", "get_input wants the name"),
        ("{get_property: [a]}", "get_property wants a node"),
        ("{get_property: [b, image]}", "there is no node 'b'"),
        ("{get_property: [SELF, imag]}", "'a' (tosca.nodes.twinfra.Job) has no property 'imag'"),
        ("{get_property: [SELF, image]}", "the property a.image depends on itself"),
        ("{get_property: [HOST, image]}", "the node 'a' has no host"),
        ("{get_property: [SOURCE, image]}", "SOURCE has no meaning here"),
        ("{get_property: [SELF, env, nothing]}", "there is nothing at 'nothing'"),
        ("{get_attribute: [SELF, adress]}", "has no attribute 'adress'"),
        ("{join: [a, 3]}", "join wants a list of parts"),
        ('{token: ["a-b", "-"]}', "token wants a text"),
        ('{token: ["a-b", "-", 2]}', "the text has no part 2"),
    ],
)
def test_function_is_refused_when_its_target_is_wrong(value: str, expected: str) -> None:
    (message,) = nodes(f"{{a: {{type: tosca.nodes.twinfra.Job, properties: {{image: {value}}}}}}}")
    assert expected in message


def test_property_cycle_is_found_when_it_runs_through_two_nodes() -> None:
    body = "{type: tosca.nodes.twinfra.Job, properties: {image: {get_property: [%s, image]}}}"
    found = nodes(f"{{a: {body % 'b'}, b: {body % 'a'}}}")
    assert any("depends on itself" in each for each in found)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{type: tosca.policies.twinfra.OnEvnt}", "policy type 'tosca.policies.twinfra.OnEvnt'"),
        ("{properties: {}}", "the type of this policy is missing"),
        ("{type: tosca.policies.Placement, targets: [jb]}", "no 'jb' in this template; is 'job'"),
        ("{type: X.OnEvent, targets: [job], properties: {action: run}}", "'event' is required"),
        ("{type: X.OnEvent, properties: {event: a, action: run}}", "names no targets"),
        ("{type: X.OnEvent, targets: [job], properties: {event: a, action: x}}", "one of [run, de"),
        ("{type: X.OnEvent, targets: [job], properties: {event: a b, action: run}}", "must match"),
        (
            "{type: X.OnEvent, targets: [job], properties: {event: a, action: deliver, path: /x}}",
            "the action deliver wants a tosca.nodes.twinfra.Service; 'job' is none",
        ),
        (
            "{type: X.OnEvent, targets: [job], properties: {event: a, action: deliver}}",
            "the property 'path' is missing",
        ),
        (
            "{type: X.OnEvent, targets: [job], properties: {event: a, action: run, path: /x}}",
            "'path' belongs to the action deliver",
        ),
        (
            "{type: X.OnEvent, targets: [vm], properties: {event: a, action: run}}",
            "'vm' (tosca.nodes.Compute) is no tosca.nodes.twinfra.Job or",
        ),
    ],
)
def test_policy_is_refused_when_it_breaks_its_type(policy: str, expected: str) -> None:
    spelt = policy.replace("X.OnEvent", "tosca.policies.twinfra.OnEvent")
    both = f"{{job: {JOB}, vm: {{type: Compute}}}}"
    assert any(
        expected in each for each in messages(f"node_templates: {both}\npolicies: [{{p: {spelt}}}]")
    )


def test_second_placement_is_refused_when_a_node_has_one() -> None:
    place = "{type: tosca.policies.Placement, targets: [job]}"
    found = messages(f"node_templates: {{job: {JOB}}}\npolicies: {{p: {place}, q: {place}}}")
    assert found == ["'job' is already placed by the policy 'p'"]


def test_import_is_refused_when_it_is_not_vendored() -> None:
    text = HEAD + "imports: [https://evil.example/x.yaml]\ntopology_template: {}\n"
    (fault,) = faults(text)
    assert (fault.line, "not fetched" in fault.message) == (2, True)


def test_type_of_ours_is_refused_when_a_template_defines_it_anew() -> None:
    text = HEAD + "node_types: {tosca.nodes.twinfra.Job: {derived_from: tosca.nodes.Root}}\n"
    assert any("cannot be defined anew" in each.message for each in faults(text))


@pytest.mark.parametrize(
    "types",
    [
        "{a: {derived_from: b}, b: {derived_from: a}}",
        "{a: {derived_from: a}}",
        "{a: {derived_from: tosca.nodes.Rot}}",
        "{a: {derived_from: tosca.nodes.Root, properties: {p: {type: q}}}}",
        "{a: {derived_from: tosca.nodes.Root, capabilities: {c: q}}}",
        "{a: {derived_from: tosca.nodes.Root, requirements: [{r: {node: q}}]}}",
        "{a: {derived_from: tosca.nodes.Root, requirements: [{r: {occurrences: [2, 1]}}]}}",
        "{a: 3}",
        "3",
    ],
)
def test_type_definition_is_refused_when_it_is_broken(types: str) -> None:
    assert faults(HEAD + f"node_types: {types}\ntopology_template: {{}}\n")


def test_checker_stops_when_there_are_very_many_faults() -> None:
    text = HEAD + "".join(f"key{index}: 1\n" for index in range(300))
    with pytest.raises(TemplateErrors) as caught:
        parse(text, limits=Limits(problem_count=50))
    assert len(caught.value.problems) == 50
