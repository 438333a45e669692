"""Brings unchanged pods to virtual nodes: admission policies, the gate's controller, eviction.

``policies`` and ``rights`` say what a cluster is given, ``install`` gives it; ``gate`` has sites
chosen for the pods that wait, by ``choosing`` alone or with a federation's ranking (``ranker``);
``eviction`` takes pods from a site that does not serve them. None of them runs a pod.
"""
