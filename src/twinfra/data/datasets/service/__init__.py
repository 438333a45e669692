"""The use cases: who may do what, what follows, and how rules are kept; no SQL, no HTTP."""
