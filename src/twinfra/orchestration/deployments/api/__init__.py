"""The doors of the deployments service: the INDIGO REST API, event streams, the services proxy."""
