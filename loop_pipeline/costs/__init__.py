"""Costs: what the frontier would have billed, and what the loop costs instead."""
