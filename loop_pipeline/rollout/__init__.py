"""How an approved student goes live in steps, and how it is taken back."""
