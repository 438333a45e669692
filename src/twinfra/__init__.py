"""twinfra: the infrastructure under a digital twin engine."""
