"""The model that every tier starts from."""
