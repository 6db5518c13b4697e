"""What an answer says: its contract, the facts it states, and whether two answers agree."""
