"""HTTP server and client plumbing shared by all services."""
