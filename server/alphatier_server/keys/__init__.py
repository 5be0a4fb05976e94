"""Who may do what: API keys, the tiers they may use, and their limits."""
