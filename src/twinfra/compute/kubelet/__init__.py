"""The virtual kubelet: a site as a node of a Kubernetes cluster."""
