"""Who is it, and may they: tokens, principals, scopes, audit; a library under all services."""
