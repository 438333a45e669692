"""Storage events as server-sent events, in dCache's words, from the durable outbox."""
