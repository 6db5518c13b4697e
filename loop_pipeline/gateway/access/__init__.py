"""Who may call: keys and their limits, and the copies of the store that workers read."""
