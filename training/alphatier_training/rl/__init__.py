"""What surrounds the trainer of a tier: prompts, rewards in the shape that TRL calls, engine, callbacks, checkpoints."""
