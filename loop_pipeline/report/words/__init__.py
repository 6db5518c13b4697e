"""Figures of the report in words, as every place prints them."""
