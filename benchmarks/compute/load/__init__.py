"""The load of `compute/pods`: the site, the watcher and the poller, each by itself."""
