"""Pictures: SVG for the report's page, matplotlib for Dagster and MLflow."""
