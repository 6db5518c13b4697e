"""What rows are worth whose errors come in units."""
