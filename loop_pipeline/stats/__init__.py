"""Statistics, a file a method. Nothing here knows of traces, students or groups."""
