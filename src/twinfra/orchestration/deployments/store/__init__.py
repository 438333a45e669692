"""The SQL of deployments: tables, and units of work over them; knows no rules."""

from twinfra.orchestration.deployments.store.tables import METADATA, OUTBOX, WORKFLOW
from twinfra.orchestration.deployments.store.unit import Store, Unit
from twinfra.orchestration.deployments.store.view import View, Wanted

__all__ = ["METADATA", "OUTBOX", "WORKFLOW", "Store", "Unit", "View", "Wanted"]
