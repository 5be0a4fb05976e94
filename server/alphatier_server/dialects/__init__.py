"""The APIs that the gateway speaks: what differs between them, and nothing else."""
