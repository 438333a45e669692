"""What a virtual kubelet knows without asking anybody; no I/O here.

``seen`` reads a pod as a watch tells it, ``status`` says what its status must be when its site says
how it is, ``environment``, ``downward`` and ``volumes`` what of it ``/create`` carries, ``node``
what its node looks like.
"""
