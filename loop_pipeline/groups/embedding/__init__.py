"""Turns requests into vectors: without weights, or by a sentence encoder."""
