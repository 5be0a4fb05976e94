"""Engines: what to run (`plan`), keeping it running (`supervisor`, `guard`), or finding it (`remote`)."""
