"""A training run: stages, processes, the output folder, progress."""
