"""Estimates from rows that were seen with different chances: their parts, and intervals that hold."""
