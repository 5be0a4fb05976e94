"""One reinforcement-learning run an alpha, on TRL's RLOO trainer."""
