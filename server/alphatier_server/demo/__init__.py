"""`make demo`: a real engine, a real gateway, the same questions at every tier, and what it all cost."""
