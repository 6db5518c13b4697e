"""Parts of the one schema of settings, each about one subject."""
