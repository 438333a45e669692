"""Third-party transfers behind the FTS3 REST interface."""
