"""Whether a student may serve: held-out answers, contestants side by side, the gate."""
