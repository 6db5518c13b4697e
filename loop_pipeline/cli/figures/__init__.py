"""Commands that print what the store knows: task groups, costs."""
