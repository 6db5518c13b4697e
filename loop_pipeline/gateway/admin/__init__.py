"""The page that shows live traffic: its figures, its server, and what the browser gets."""
