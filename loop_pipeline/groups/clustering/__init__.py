"""Finds task groups, and carries their ids over refits."""
