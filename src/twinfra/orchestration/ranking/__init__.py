"""Which provider is best for a request, and why."""
