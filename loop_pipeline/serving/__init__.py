"""Serving: the student's server, what is loaded on it, and the process that keeps it alive."""
