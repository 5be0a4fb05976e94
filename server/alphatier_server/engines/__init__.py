"""Engines: what to run (`plan`), keeping it running (`managed`), or finding it (`remote`)."""
