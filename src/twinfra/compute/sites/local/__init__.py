"""A site on this machine: a queue of our own before keepers of our own.

``site`` is the back end, ``queue`` decides who runs next, ``store`` keeps the queue.
"""

from twinfra.compute.sites.local.site import LocalSite

__all__ = ["LocalSite"]
