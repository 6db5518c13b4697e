"""Lines that could not be used: kept as they came, looked at, and tried again."""
