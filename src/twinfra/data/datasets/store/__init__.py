"""SQL behind the ports: one unit of work, stores on its connection, set-based statements."""
