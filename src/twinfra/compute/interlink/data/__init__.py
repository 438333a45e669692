"""Data of pods: inputs linked in from the site's own storage, outputs published through its edge.

``admission`` asks before a pod is taken, ``inputs`` stages, ``outputs`` publishes. The catalogue of
data is the datasets service, asked by its client; bytes go out through the site's edge, so that
what a pod wrote is checksummed, announced and accounted like any other file.
"""
