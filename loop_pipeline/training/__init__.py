"""The student: its base, its adapter, and whether it may serve."""
