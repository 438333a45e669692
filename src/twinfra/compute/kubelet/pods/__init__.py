"""The pods of one node: taken from the watch, handed to the site, kept up to date, let go.

``controller`` decides, ``creation`` and ``ending`` are the two ways over the wire, ``freshness``
hears how pods are, ``writer`` tells Kubernetes, ``objects`` fetches what a pod names, ``orphans``
compares both sides. A pod's key is its UID everywhere.
"""
