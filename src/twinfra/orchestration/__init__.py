"""Intelligent orchestration: which provider, and the deployment itself."""
