"""What every service stands on: errors, time, settings, database, HTTP, bus; knows no service."""
