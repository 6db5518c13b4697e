"""Estimates from rows that were seen with different chances: parts, and intervals that hold."""
