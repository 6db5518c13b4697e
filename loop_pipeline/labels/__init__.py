"""Labels: which answers are good, which are made up, and what each trace teaches."""
