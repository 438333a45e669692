"""Tables of the Slurm back end."""
