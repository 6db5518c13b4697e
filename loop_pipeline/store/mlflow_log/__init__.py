"""Training runs in MLflow: what is logged, read back, and how it is written page by page."""
