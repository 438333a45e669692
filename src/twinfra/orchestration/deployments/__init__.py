"""Deployments behind the INDIGO Orchestrator REST interface, and their services."""
