"""How much a key may use: rates and places, counted in one process, in several, or in Redis."""
