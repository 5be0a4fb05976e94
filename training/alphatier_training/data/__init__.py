"""Problems from files, hubs and the generator: reading, filtering, contamination."""
