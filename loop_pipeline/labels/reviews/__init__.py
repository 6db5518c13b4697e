"""Reviews: which answers people look at, and how far each reviewer can be trusted."""
