"""The web page of the federation."""
