"""Traces on their way in: named, compared with what is there, inserted many at once."""
