"""Trains an adapter; imports torch, so only the training process loads it."""
