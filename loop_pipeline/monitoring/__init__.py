"""Is the promise kept after a policy is in force, and what follows if it is not."""
