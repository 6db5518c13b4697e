"""What is kept of the watch over promises after a policy is in force."""
