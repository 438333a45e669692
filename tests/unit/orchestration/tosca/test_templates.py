"""Whole templates, in the style of those that dashboards send, become the plans they mean."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from twinfra.orchestration.tosca import Plan, parse

FOLDER = Path(__file__).parent / "templates"
INPUTS: dict[str, dict[str, Any]] = {
    "helm": {"password": "longEnough1"},
    "climate_twin": {"image": "twin:1"},
}
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def plan(name: str, **inputs: Any) -> Plan:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return parse(text, {**INPUTS.get(name, {}), **inputs})


def host(made: Plan, node: str) -> dict[str, Any]:
    return dict(made.nodes[node].capabilities["host"].properties)


@pytest.mark.parametrize("name", NAMES)
def test_every_node_follows_what_it_requires_when_a_template_is_planned(name: str) -> None:
    made = plan(name)
    order = list(made.nodes)
    for node in made.nodes.values():
        for target in node.dependencies:
            assert order.index(target) < order.index(node.name)
    assert made == plan(name)
    assert not [each for each in made.warnings if "no effect" not in each.message]


def test_sizes_are_bytes_and_outputs_wait_when_a_machine_is_planned() -> None:
    made = plan("single_vm", cpus=4, memory="8 GiB")
    assert host(made, "machine") == {"num_cpus": 4, "mem_size": 8 * 2**30}
    assert made.nodes["machine"].capabilities["os"].properties["version"] == "12.0"
    assert made.outputs_with({}) == {"address": None, "login": None}
    known = {"machine": {"public_address": ["192.0.2.7"]}}
    assert made.outputs_with(known) == {"address": "192.0.2.7", "login": "ssh debian@192.0.2.7"}
    assert made.inputs["cpus"].constraints == ({"valid_values": [1, 2, 4, 8]},)
    assert made.metadata["display_name"] == "A machine"


def test_relationship_carries_its_properties_when_a_disk_is_attached() -> None:
    (attachment,) = plan("disk").nodes["server"].requirements
    assert attachment.node == "volume"
    assert attachment.capability == "attachment"
    assert attachment.relationship == "tosca.relationships.AttachesTo"
    assert attachment.properties == {"location": "/data", "device": "hdb"}
    assert plan("disk").nodes["volume"].properties["size"] == 50 * 10**9


def test_alias_becomes_the_current_name_when_an_old_one_is_used() -> None:
    assert plan("networks").nodes["outer"].type == "tosca.nodes.network.Network"
    assert plan("merged").nodes["disk"].type == "tosca.nodes.BlockStorage"
    assert plan("nomad").nodes["vm"].type == "tosca.nodes.Compute"


def test_worker_count_and_addresses_are_known_when_a_cluster_is_planned() -> None:
    made = plan("kubernetes", workers=5)
    assert made.nodes["worker_vm"].count == 5
    assert made.nodes["control"].properties["nvidia_support"] is False
    assert made.nodes["worker"].properties["version"] == "1.32.4"
    attributes = {"control_vm": {"private_address": ["10.0.0.2"], "public_address": ["192.0.2.1"]}}
    assert made.properties_with("worker", attributes)["front_end_ip"] == "10.0.0.2"
    assert made.outputs_with(attributes)["api"] == "https://192.0.2.1:6443"
    output = {"control_vm_conf": {"tasks": {"kube": {"output": "apiVersion: v1"}}}}
    attributes["control_vm"]["ansible_output"] = output  # type: ignore[assignment]  # as IM gives it
    assert made.outputs_with(attributes)["config"] == "apiVersion: v1"


def test_property_of_a_requirements_target_is_found_when_named_by_the_requirement() -> None:
    made = plan("slurm", nodes=7)
    assert made.outputs_with({}) == {"batch": "slurm", "most": 7}
    assert made.nodes["head"].properties["wn_num"] == 7


def test_old_spelling_of_booleans_is_understood_when_the_type_is_boolean() -> None:
    assert plan("htcondor").nodes["head"].properties["nfs"] is True
    users = plan("jupyter").nodes["vm"].properties["os_users"]
    assert users == [{"os_user_name": "alice", "os_user_add_to_sudoers": True}]


def test_nested_values_are_filled_when_a_chart_takes_inputs() -> None:
    values = plan("helm").nodes["database"].properties["values"]
    assert values == {"auth": {"password": "longEnough1"}, "replicas": 2}


def test_join_waits_for_a_list_when_it_is_an_attribute() -> None:
    made = plan("chart_on_cluster")
    assert made.outputs_with({"hub": {"worker_nodes_ips": ["a", "b"]}}) == {"nodes": "a,b"}
    assert made.nodes["hub"].properties["values"].startswith("hub:\n")


def test_host_means_what_the_node_stands_on_when_functions_name_it() -> None:
    configure = plan("compose").nodes["store"].interfaces["Standard"]["configure"]
    assert configure.implementation == "playbooks/store.yml"
    assert configure.inputs["dns"] == "store.example.org"
    assert configure.inputs["disk"] == "store"
    assert plan("mysql").nodes["schema"].properties["port"] == 3306


def test_fractions_of_a_cpu_are_kept_when_a_container_asks_for_them() -> None:
    made = plan("docker")
    assert made.nodes["app"].image == "registry.example.org/app:1"
    assert host(made, "runtime")["num_cpus"] == 0.5
    assert host(made, "runtime")["publish_ports"] == [
        {"protocol": "tcp", "source": 31080, "target": 80}
    ]


def test_join_and_token_give_text_when_all_is_known() -> None:
    job = plan("batch_job").nodes["job"].properties
    assert job["arguments"] == "2020 2050"
    assert job["environment"] == {"FIRST": "2020"}


def test_policies_are_read_when_they_are_a_list_or_a_mapping() -> None:
    (sla,) = plan("sla_map").policies
    assert sla.properties == {"sla_id": "s1", "region": "north"}
    assert sla.nodes == ("vm",)
    place, watch = plan("cloud_list").policies
    assert (place.targets, place.nodes) == (("pair",), ("vm", "other"))
    assert watch.nodes == ("vm",)
    assert [each.name for each in plan("cloud_list").policies_for("other")] == ["place"]


def test_jobs_services_and_events_are_planned_when_a_twin_is_described() -> None:
    made = plan("climate_twin", cpus=2)
    assert list(made.nodes) == ["train", "predict", "update"]
    train = made.nodes["train"]
    assert (train.request.cpu, train.request.memory_bytes) == (2.0, 512 * 2**20)
    assert train.properties["inputs"] == ["climate:scenarios"]
    assert [node.image for node in made.nodes.values()] == ["twin:1"] * 3
    assert made.nodes["update"].request.capabilities == ("isolated",)
    assert made.nodes["predict"].properties["env"] == {"MODEL": "/data/climate/model"}
    assert [node.name for node in made.of_type("tosca.nodes.twinfra.Job")] == ["train", "update"]
    deliver, run = made.policies
    assert deliver.properties["filter"] == {"dataset": "climate:ensemble"}
    assert (run.properties["action"], run.nodes) == ("run", ("update",))
    assert made.dependents(["train"]) == ("predict",)
    attributes = {"predict": {"url": "https://x/services/1"}, "train": {"site": "hpc-b"}}
    assert made.outputs_with(attributes) == {
        "url": "https://x/services/1/predict",
        "trained_at": "hpc-b",
    }


def test_own_types_are_checked_and_typed_when_a_template_defines_them() -> None:
    sensor = plan("own_types").nodes["sensor"]
    assert sensor.properties["window"] == {
        "start": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "length": 86400.0,
    }
    assert sensor.properties["duty"] == 50
    assert plan("own_types").nodes["reader"].dependencies == ("sensor", "vm")


def test_merged_mapping_is_overridden_when_keys_stand_beside_it() -> None:
    made = plan("merged")
    assert host(made, "a") == {"num_cpus": 2, "mem_size": 10**9}
    assert host(made, "b")["num_cpus"] == 1
    assert made.nodes["a"].requirements[0].properties == {"location": "/mnt"}
