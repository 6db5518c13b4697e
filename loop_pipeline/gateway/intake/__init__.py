"""What is handed in beside requests: feedback, and batches of other tools."""
