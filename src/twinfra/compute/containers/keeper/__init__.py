"""The detached keeper of one pod: standard library only, Python 3.9 grammar, shipped as a zipapp.

It must not import anything of twinfra outside this folder: it runs with the site's own Python.
Its neighbour is `compute/containers/handle.py`, which speaks to it through the job directory.
"""
