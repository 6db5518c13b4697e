"""One file a format. Each turns foreign lines into ``Trace`` and ``Feedback`` records."""
