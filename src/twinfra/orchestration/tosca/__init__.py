"""TOSCA Simple Profile templates: parsed, checked, planned.

``parse(text, inputs) -> Plan`` is the whole surface; it does no I/O and raises ``TemplateErrors``.
"""

from twinfra.orchestration.tosca.errors import TemplateErrors, TemplateProblem
from twinfra.orchestration.tosca.model import Limits, Plan
from twinfra.orchestration.tosca.parse import parse

__all__ = ["Limits", "Plan", "TemplateErrors", "TemplateProblem", "parse"]
