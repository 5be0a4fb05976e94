"""Engines: what to run (`plan`), keeping it running (`managed`, `guard`), or finding it (`remote`)."""
