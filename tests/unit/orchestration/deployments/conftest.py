"""The orchestrator on fakes, its work turned by hand; templates that tests deploy."""

import pytest

from twinfra.orchestration.deployments.service.deployments import Request
from twinfra.testkit.orchestra import Orchestra, a_person

HEAD = "tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template:\n"
TRAIN = """\
    train:
      type: tosca.nodes.twinfra.Job
      properties:
        image: climate:1
        command: [python, train.py]
        inputs: ["climate:scenarios"]
        outputs: ["climate:model"]
      capabilities:
        host: {properties: {num_cpus: 1, mem_size: 512 MiB}}
"""
PREDICT = """\
    predict:
      type: tosca.nodes.twinfra.Service
      properties:
        image: climate:1
        port: 8080
        readiness_path: /ready
        inputs: ["climate:model"]
        follow: ["climate:model"]
"""
UPDATE = """\
    update:
      type: tosca.nodes.twinfra.Job
      properties:
        image: climate:1
        inputs: ["climate:scenarios"]
        outputs: ["climate:model"]
"""
POLICIES = """\
  policies:
    - on-ensemble:
        type: tosca.policies.twinfra.OnEvent
        targets: [update]
        properties:
          event: org.twinfra.dataset.closed
          filter: {dataset: "climate:ensemble"}
          action: run
    - on-member:
        type: tosca.policies.twinfra.OnEvent
        targets: [predict]
        properties:
          event: org.twinfra.dataset.file-added
          filter: {dataset: "climate:ensemble"}
          action: deliver
          path: /events
"""
OUTPUTS = """\
  outputs:
    address: {value: {get_attribute: [predict, url]}}
"""


def template(*nodes, rest=""):
    return HEAD + "  node_templates:\n" + "".join(nodes) + rest


def request(*nodes, rest="", **changes):
    return Request(template=template(*nodes, rest=rest), **changes)


@pytest.fixture
def alice():
    return a_person("alice")


@pytest.fixture
def templates():
    """The words of templates, and how they become a request."""
    return {"train": TRAIN, "predict": PREDICT, "update": UPDATE, "policies": POLICIES,
            "outputs": OUTPUTS, "text": template, "request": request}  # fmt: skip


@pytest.fixture
async def world(sqlite):
    return await Orchestra.tuned(sqlite)


@pytest.fixture(params=[False, True], ids=["once", "every-step-twice"])
async def twice_world(request, sqlite):
    """The same story must come out where every step was carried out twice."""
    return await Orchestra.tuned(sqlite, twice=request.param)
