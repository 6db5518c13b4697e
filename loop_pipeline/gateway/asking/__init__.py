"""What asking a student takes: plans, patience, judging its answers, shadows."""
