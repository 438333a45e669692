"""What interLink's two hops carry, read from JSON and written to it; no I/O here.

Spellings follow the published structures, their oddities included; a reader takes every spelling in
use, ``null`` for every list, and ignores what it does not know. Neighbours: ``pods`` turns a pod
into a keeper's plan, ``api`` and ``plugin`` move these objects over HTTP.
"""
