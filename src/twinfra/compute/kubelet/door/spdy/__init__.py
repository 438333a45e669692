"""SPDY/3.1 for one server: frames, header blocks, connections of streams.

kubectl, and API servers before 1.36, speak it for exec, attach and port-forward; no maintained
Python implementation exists. It knows nothing of Kubernetes and reads and writes through a port.

Source: the SPDY protocol, drafts 3 and 3.1 (draft-mbelshe-httpbis-spdy-00, chapter 2).
"""
