"""The use cases of deployments: what people ask for, and the durable work that follows.

Speaks to neighbours through ``ports`` only; does no I/O of its own. ``deployments`` answers the
API, ``building``, ``removing``, ``placing``, ``running`` and ``serving`` are steps for the engine,
``reactions`` hear the bus.
"""
