"""The pages of approvals: thin, one domain call each; they read the clock and nothing else."""
