"""The interLink API on both hops, and its typed client."""
