"""The frontier's side of a request: asked, and its answer passed on."""
