"""Routing: which requests the student may answer, and the promise that comes with it."""
