"""What clients can call."""
