"""What surrounds a tier's trainer: prompts, rewards in the shape that TRL calls, engine, callbacks, checkpoints."""
