"""How the providers are."""
