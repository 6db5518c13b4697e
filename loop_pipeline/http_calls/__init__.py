"""Asking a server over HTTP: again if it is busy, and never for ever."""
