"""The interLink API server of a site: what virtual kubelets and the orchestrator speak to."""
