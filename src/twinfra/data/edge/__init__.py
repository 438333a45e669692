"""The edge service: a facility's file system takes part in the federation."""
