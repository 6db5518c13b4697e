"""How the answers to a template use words, learned from its traffic without labels."""
