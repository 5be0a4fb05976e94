"""The running engines: the choice among them, their health, and their coming and going."""
